"""The configuration of gunicorn, and its worker: ``gunicorn --config python:web.server`` reads this module.

The worker is gunicorn's worker for ASGI, whose event loop holds any number of slow connections. ``web.asgi`` runs the
application in threads.
"""

import asyncio
import gc
import resource
import socket
import sys
from typing import Any, Final, cast

from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import gasgi
from gunicorn.workers.base import Worker
from typing_extensions import override

from shared.logs import make_formatter
from shared.parent_process import end_with_parent
from shared.settings import load_settings
from shared.state_folder import protect_state

STALL_TIMEOUT_S: Final = 30
"""A connection is closed when the client has not read what was sent to it for this time."""
ACCEPT_QUEUE: Final = 2_048
SWITCH_INTERVAL_S: Final = 0.001
"""How long a thread may compute while others wait for the interpreter (Python's default is 5 ms). A short request waits
this long for each of the others, several times."""

_settings = load_settings()
protect_state(_settings)  # before the processes of the web are forked

wsgi_app = "web.asgi:make_application()"
bind = _settings.authority
workers = _settings.web_processes
graceful_timeout = 2
timeout = 120
# The time that a connection may take to send the head of a request, and that it may stay open between requests.
keepalive = 15
# No header of a request is believed to come from a proxy.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """A connection, which must send the head of its first request in time as well, not only those of the next ones."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm_keepalive_timer()

    def eof_received(self) -> bool:
        """Keep a connection whose client has sent its last byte open while a request is answered, and no longer."""
        self._keepalive = 0
        body = self._body_receiver
        if body is not None and not body._complete:  # noqa: SLF001 - gunicorn has no public state of a request
            body.signal_disconnect()
        return self._current_request is not None


class FairLoop(asyncio.SelectorEventLoop):
    """An event loop that accepts one connection at a time, so that connections are spread over all processes."""

    @override
    async def create_server(self, *given: Any, sock: socket.socket, **options: Any) -> asyncio.Server:  # type: ignore[override]  # the form that gunicorn uses
        # asyncio accepts ``backlog`` connections at once, and also limits the socket's queue to this number.
        server = await super().create_server(*given, sock=sock, backlog=1, **options)
        sock.listen(ACCEPT_QUEUE)
        return server


class ConnectionWorker(gasgi.ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker process of gunicorn with its own limits for connections."""

    @override
    def _setup_event_loop(self) -> None:
        self.loop = FairLoop()
        asyncio.set_event_loop(self.loop)

    @override
    def init_process(self) -> None:
        gasgi.ASGIProtocol = Connection  # gunicorn has no setting for the class of a connection
        _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
        for listener in self.sockets:  # connections inherit the option
            cast("socket.socket", listener.sock).setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_TIMEOUT_S * 1_000
            )
        super().init_process()


worker_class = ConnectionWorker


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own log, in the same format as all other logs."""

    def setup(self, cfg: Config) -> None:
        """Set up gunicorn's logs, and format the error log like all other logs."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(make_formatter(_settings))


logger_class = ServerLog
loglevel = _settings.log_level.lower()
# The control socket is not used, and gunicorn would create it in the user's home folder.
control_socket_disable = True


def post_fork(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - gunicorn's interface
    """Let a process end with the master: without a master, it would hold the port until it notices that."""
    end_with_parent(server.pid)


def post_worker_init(worker: Worker) -> None:  # noqa: ARG001 - gunicorn's interface
    """Set up the interpreter of a process.

    The objects that stay in memory are excluded from garbage collection, which would scan them for 80 ms at a time;
    and the threads of the process take shorter turns (`SWITCH_INTERVAL_S`).
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
