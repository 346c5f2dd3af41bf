"""The database: one engine per process, two kinds of transaction, and its clock.

PostgreSQL is for production; SQLite for one machine. What differs between
them stands in this module and nowhere else.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from shared.database.tables import UtcDateTime
from shared.errors import SettingsError

BUSY_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 3
STATEMENT_TIMEOUT_S: Final = 15
_SERVER_OPTIONS: Final = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "tcp_keepalives_idle": 15,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    # Each plan knows its values: states and labels are skewed, and a plan for any of them reads for 110 ms what one
    # for these finds in 20. To plan anew costs a poll 0.06 ms.
    "plan_cache_mode": "force_custom_plan",
}
_WRITES: Final = "mindjobs_writes"


class Database:
    """Opens transactions.

    Parameters
    ----------
    url
        As SQLAlchemy writes it: ``postgresql://…`` or ``sqlite:///…``.
    """

    def __init__(self, url: str) -> None:
        self.engine = _connect(url)
        self._writer = self.engine.execution_options(**{_WRITES: True})
        self._reader = _make_reader(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads; its objects may be used after it.

        Statements may see what others commit between them; one statement sees one moment.
        """
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that is committed at the end of the block, or rolled back by an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection; the next transaction opens new ones."""
        self.engine.dispose()


def _connect(address: str) -> Engine:
    try:
        url = make_url(address)
    except Exception as error:
        raise SettingsError(f"MINDJOBS_DATABASE_URL is not a database address: {error}") from error
    match url.get_backend_name():
        case "postgresql":
            return create_engine(
                url.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                hide_parameters=True,  # an error goes into the log, and a webhook's address may hold a secret
                pool_size=8,
                max_overflow=32,
                connect_args={
                    "connect_timeout": CONNECT_TIMEOUT_S,
                    # A server notices a client that vanished, and a client a server: whatever the kernel's
                    # patience, neither keeps a lock or a thread for long.
                    "options": " ".join(f"-c {name}={value}" for name, value in _SERVER_OPTIONS.items()),
                    "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1_000,
                },
            )
        case "sqlite":
            if url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                url, hide_parameters=True, pool_size=8, max_overflow=32, connect_args={"timeout": BUSY_TIMEOUT_S}
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        case other:
            raise SettingsError(f"MINDJOBS_DATABASE_URL: {other!r} is not known; give postgresql:// or sqlite:///")


def _make_reader(engine: Engine) -> Engine:
    """Spare PostgreSQL the beginning and the end of transactions whose statements see a moment each anyway."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.name == "postgresql" else engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transactions begin too late; _begin_sqlite says when.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # With WAL this survives a crash of the process; a power cut may cost the
    # last commits, as a lost message would, but never the file.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        # A writer takes the lock at once: a reader that turned writer would fail
        # where two do so, however long they wait. What fails here, SQLAlchemy translates.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # A reader waits for nothing. The driver's own way, for SQLAlchemy's takes longer than the reading of a row.
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]  # as _connect made it
    driver.execute("BEGIN")


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, so that machines whose clocks differ agree on a lease.

    Parameters
    ----------
    plus_s
        Seconds to add; may be negative.
    """

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, plus_s: float | ColumnElement[float] = 0.0) -> None:
        super().__init__(plus_s)


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's options
    (plus_s,) = element.clauses
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(plus_s, **options)}))"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's options
    (plus_s,) = element.clauses
    # The digits as UtcDateTime writes them, so that moments compare as text.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({compiler.process(plus_s, **options)}) || ' seconds')"
