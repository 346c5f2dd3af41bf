"""An endpoint of webhooks, on loopback: it keeps what it is sent, and answers as a test says."""

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
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """What it tells."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class Receiver(LoopbackServer):
    """A real server. Under ``/hang`` it answers when the test allows it, under ``/STATUS`` with that status."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answering = threading.Event()
        super().__init__(partial(_Handler, self), "receiver")

    def locate(self, path: str = "/200") -> str:
        """Return the URL of a path."""
        return f"{self.url}{path}"

    def wait_for(self, path: str, requests: int = 1) -> list[Received]:
        """Wait until so many requests have come for a path."""

        def look() -> list[Received]:
            received = [request for request in self.received if request.path == path]
            return received if len(received) >= requests else []

        return wait_until(look, f"{requests} requests for {path}")

    def release(self) -> None:
        """Answer those under ``/hang``."""
        self.answering.set()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, receiver: Receiver, *args: Any) -> None:
        self._receiver = receiver
        super().__init__(*args)  # answers

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
        """Keep the test's output to itself."""
