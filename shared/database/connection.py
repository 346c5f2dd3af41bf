"""The database: one engine per process, three kinds of transaction, and the database's clock.

PostgreSQL is for production, SQLite for a single machine. This module handles the differences in connections, locking
and clock; `shared.database.tables` handles the differences in column types.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from shared.database.patience import WORKER, Patience, limit_waiting
from shared.database.tables import UtcDateTime
from shared.errors import SettingsError
from shared.texts import text

STATEMENT_TIMEOUT_S: Final = 15
_SERVER_OPTIONS: Final = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "tcp_keepalives_idle": 15,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    # Make a new plan for each execution of a statement, for the actual values of the parameters. Some states and labels
    # are far more frequent than others, so one plan for all values can be slow: a query that takes 110 ms with such a
    # plan takes 20 ms with a plan for the actual values. The planning adds 0.06 ms to a poll.
    "plan_cache_mode": "force_custom_plan",
}
_POSTGRESQL_DISK_FULL: Final = "53100"
_WRITES: Final = "mindjobs_writes"
"""The name of the execution option that marks the connections for writing."""


class Database:
    """Opens transactions.

    Parameters
    ----------
    url
        Address of the database in the form that SQLAlchemy expects: ``postgresql://…`` or ``sqlite:///…``.
    patience
        How long to wait for the database.
    """

    def __init__(self, url: str, patience: Patience = WORKER) -> None:
        self.engine = _connect(url, patience)
        self.writer = self.engine.execution_options(**{_WRITES: True})
        self._reader = _make_reader(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads. The objects that it reads may still be used after the transaction.

        Each statement sees the database as it was at one moment. The next statement may also see changes that other
        transactions have committed since the previous statement.
        """
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that is committed at the end of the block, or rolled back by an exception."""
        with Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection; the next transaction opens a new connection."""
        self.engine.dispose()


def _connect(address: str, patience: Patience) -> Engine:
    try:
        url = make_url(address)
    except Exception as error:
        raise SettingsError(text("database-url-invalid", reason=str(error))) from error
    match url.get_backend_name():
        case "postgresql":
            engine = create_engine(
                url.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                hide_parameters=True,  # errors are logged, and a parameter such as a webhook's URL may be secret
                # To open and close a connection costs PostgreSQL a process, so those are kept that event streams use
                # all the time. With 8 kept, 64 streams that read in step let the p99 of a poll rise to 285 ms; with 16
                # and no others, to 193 ms. The others are for bursts: without them, 50 submissions that wait for one
                # another left some without a connection for a second.
                pool_size=16,
                max_overflow=24,
                pool_timeout=patience.pool_s,
                connect_args={
                    # With these settings the server notices a lost client, and the client notices a lost server,
                    # independently of the kernel's timeouts. So a lost client does not hold a lock for long, and a lost
                    # server does not block a thread for long.
                    "options": " ".join(f"-c {name}={value}" for name, value in _SERVER_OPTIONS.items()),
                    "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1_000,
                },
            )
            limit_waiting(engine, patience)
            return engine
        case "sqlite":
            if url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                url,
                hide_parameters=True,
                pool_size=8,
                max_overflow=32,
                pool_timeout=patience.pool_s,
                connect_args={"timeout": patience.lock_s},
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        case other:
            raise SettingsError(text("database-scheme-unknown", scheme=other))


def _make_reader(engine: Engine) -> Engine:
    """Make the engine for reading.

    On PostgreSQL this engine sends no BEGIN and no COMMIT. They would make no difference to what the statements see,
    because PostgreSQL gives each statement its own snapshot even within a transaction.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.name == "postgresql" else engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # By default the driver begins transactions itself, but too late. With None it begins no transaction, and
    # `_begin_sqlite` begins each transaction.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # With WAL and this setting, commits survive a crash of the process. A power failure may lose the last commits, but
    # never damages the file.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        # A writing transaction takes the write lock when it begins. If two transactions took the lock only after they
        # had read, one of the two would fail, no matter how long it waited. The statement is sent through SQLAlchemy,
        # so that SQLAlchemy converts the driver's errors to its own exceptions.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # A reading transaction waits for no lock. The driver is called directly, because the same call through SQLAlchemy
    # takes longer than reading a row.
    get_sqlite_driver(connection).execute("BEGIN")


def get_sqlite_driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection of a connection to SQLite."""
    return connection.connection.driver_connection  # type: ignore[return-value]  # only called for SQLite's driver


class now(FunctionElement[datetime]):  # noqa: N801 - named like the SQL function that it stands for
    """The current time by the clock of the database, so that machines with different clocks agree about leases.

    Parameters
    ----------
    plus_s
        Seconds to add to the current time; may be negative.
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
    # SQLite compares times as text, so the format is the one in which UtcDateTime stores times.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({compiler.process(plus_s, **options)}) || ' seconds')"


def is_database_full(error: SQLAlchemyError) -> bool:
    """Return whether the database could not write because its disk is full."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", None) == _POSTGRESQL_DISK_FULL
