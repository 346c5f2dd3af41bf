"""Real servers on loopback, each in a thread of the test's own process."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class LoopbackServer:
    """Serves requests while a ``with`` block runs; each connection is served in a thread of its own.

    Parameters
    ----------
    name
        The name of the server's thread.
    """

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler], name: str) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        # The server checks every 10 ms whether it must stop. The interval is short because the test waits until
        # the server has stopped.
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def release(self) -> None:
        """Finish the requests that a subclass holds back; this is called before the server stops."""
