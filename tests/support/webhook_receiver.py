"""A receiver of webhook messages on loopback: it keeps every request, and answers as the path of the request says."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import LoopbackServer
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Received:
    """A request that the receiver got."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The message in the body of the request."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class Receiver(LoopbackServer):
    """Keeps every request, and answers it with the status in the path: a request for ``/410`` gets status 410.

    A request for a path that begins with ``/hang`` waits until `release` is called, and then gets status 200.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answering = threading.Event()
        super().__init__(partial(_Handler, self), "receiver")

    def locate(self, path: str = "/200") -> str:
        """Return the URL of a path."""
        return f"{self.url}{path}"

    def wait_for(self, path: str, requests: int = 1) -> list[Received]:
        """Wait until at least ``requests`` requests for a path have arrived, and return all requests for this path."""

        def look() -> list[Received]:
            received = [request for request in self.received if request.path == path]
            return received if len(received) >= requests else []

        return wait_until(look, f"{requests} requests for {path}")

    def release(self) -> None:
        """Answer the waiting requests for ``/hang``; later requests for ``/hang`` do not wait."""
        self.answering.set()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, receiver: Receiver, *args: Any) -> None:
        self._receiver = receiver
        super().__init__(*args)  # handles the request

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._receiver.received.append(Received(self.path, dict(self.headers), body))
        if self.path.startswith("/hang"):
            self._receiver.answering.wait()
        status = self.path.strip("/")[:3]
        self.send_response(int(status) if status.isdecimal() else 200)
        self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing, so that no request appears in the output of the tests."""
