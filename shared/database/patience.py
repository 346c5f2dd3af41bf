"""How long a process waits for a database that does not answer."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from sqlalchemy import Engine, event
from typing_extensions import override


@dataclass(frozen=True)
class Patience:
    """How long a process waits for the database, in seconds.

    Parameters
    ----------
    connect_s
        For a new connection.
    ping_s
        For the answer to the statement that tests a connection before it is used again.
    answer_s
        For the answer to any other statement.
    pool_s
        For a free connection.
    lock_s
        For the write lock of SQLite.
    """

    connect_s: int
    ping_s: float
    answer_s: float
    pool_s: float
    lock_s: float


WORKER: Final = Patience(connect_s=3, ping_s=3, answer_s=20, pool_s=30, lock_s=10)
"""For workers, the sweeper and commands: their work may wait."""
WEB: Final = Patience(connect_s=2, ping_s=1, answer_s=4, pool_s=1, lock_s=4)
"""For the web: every request is answered within 5 s. At worst, a request waits for a free connection, finds that this
connection does not answer, and cannot make a new one."""


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection to PostgreSQL that is closed if the server does not answer in time.

    The server limits the time of a statement as well, but a server that is suspended, or whose packets are lost, does
    not. The kernel limits only the time until the other kernel confirms what it has received.
    """

    max_wait_s: float | None = None

    @override
    def wait(self, gen: Generator[Any, Any, Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.max_wait_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - psycopg has no public name for it
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server has not answered within {self.max_wait_s:g} s") from error


def limit_waiting(engine: Engine, patience: Patience) -> None:
    """Limit how long the connections of an engine for PostgreSQL wait for an answer."""
    ping = engine.dialect.do_ping

    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> ImpatientConnection:  # noqa: ANN401 - the driver's
        connection = ImpatientConnection.connect(*arguments, **options, connect_timeout=patience.connect_s)
        connection.max_wait_s = patience.answer_s
        return connection

    def ping_in_time(connection: Any) -> bool:  # noqa: ANN401 - the driver's connection
        connection.max_wait_s = patience.ping_s
        try:
            return ping(connection)
        finally:
            connection.max_wait_s = patience.answer_s

    event.listen(engine, "do_connect", connect)
    engine.dialect.do_ping = ping_in_time  # type: ignore[method-assign, assignment]  # SQLAlchemy has no event for it
