"""The database: one engine per process, three kinds of transaction, and the database's clock.

PostgreSQL is for production, SQLite for a single machine. Every difference between them is in this module.
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
from shared.texts import text

BUSY_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 3
STATEMENT_TIMEOUT_S: Final = 15
_SERVER_OPTIONS: Final = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "tcp_keepalives_idle": 15,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    # Plan each execution for its values: states and labels are unevenly distributed, and a plan for any value needs
    # 110 ms for what a plan for the actual values finds in 20 ms. Planning costs a poll 0.06 ms.
    "plan_cache_mode": "force_custom_plan",
}
_WRITES: Final = "mindjobs_writes"
"""The execution option of connections that write."""
_MIGRATION_LOCK: Final = 5_270_140
"""Any number will do, but every process that migrates must use the same one."""


class Database:
    """Opens transactions.

    Parameters
    ----------
    url
        As SQLAlchemy expects it: ``postgresql://…`` or ``sqlite:///…``.
    """

    def __init__(self, url: str) -> None:
        self.engine = _connect(url)
        self._writer = self.engine.execution_options(**{_WRITES: True})
        self._reader = _make_reader(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads; the objects that it returns may be used afterwards.

        A statement sees the database as it was at one moment, but a later one may see what others have committed since.
        """
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that is committed at the end of the block, or rolled back by an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Open a transaction that may change the tables; processes that migrate wait for each other.

        It has no time limit. It is committed at the end of the block, or rolled back by an exception.
        """
        with self._writer.connect() as connection, _suspended_foreign_keys(connection), connection.begin():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            yield connection
            if connection.dialect.name == "sqlite":
                _check_foreign_keys(connection)

    def close(self) -> None:
        """Close every connection; the next transaction opens new ones."""
        self.engine.dispose()


def _connect(address: str) -> Engine:
    try:
        url = make_url(address)
    except Exception as error:
        raise SettingsError(text("database-url-invalid", reason=str(error))) from error
    match url.get_backend_name():
        case "postgresql":
            return create_engine(
                url.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                hide_parameters=True,  # errors are logged, and the address of a webhook may contain a secret
                pool_size=8,
                max_overflow=32,
                connect_args={
                    "connect_timeout": CONNECT_TIMEOUT_S,
                    # The server notices a lost client and the client a lost server, whatever the kernel's timeouts:
                    # neither holds a lock or a thread for long.
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
            raise SettingsError(text("database-scheme-unknown", scheme=other))


def _make_reader(engine: Engine) -> Engine:
    """Make the engine for reading: on PostgreSQL without BEGIN and COMMIT, since each statement sees its own moment."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.name == "postgresql" else engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transactions begin too late; _begin_sqlite begins them instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # With WAL this survives a crash of the process; a power failure may lose the last commits, but never damages the
    # file.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        # A writer takes the lock at once: if two readers became writers, one would fail, however long it waits.
        # SQLAlchemy translates errors that are raised here.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # A reader waits for nothing. This uses the driver directly: SQLAlchemy's way takes longer than reading a row.
    _get_sqlite_driver(connection).execute("BEGIN")


def _get_sqlite_driver(connection: Connection) -> sqlite3.Connection:
    return connection.connection.driver_connection  # type: ignore[return-value]  # as _connect made it


@contextmanager
def _suspended_foreign_keys(connection: Connection) -> Iterator[None]:
    """Do not enforce SQLite's foreign keys in the transaction that begins within the block.

    SQLite changes a table by copying it and dropping the original, and dropping a table would delete every row that
    refers to it. The setting has no effect within a transaction.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = _get_sqlite_driver(connection)
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def _check_foreign_keys(connection: Connection) -> None:
    violations = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if violations:
        raise RuntimeError(f"the migration would leave rows that refer to missing rows: {violations[:5]}")


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, so that machines whose clocks differ agree about leases.

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
    # In the format of UtcDateTime, so that times compare as text.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({compiler.process(plus_s, **options)}) || ' seconds')"
