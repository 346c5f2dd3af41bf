"""A server on loopback that answers as a test scripts it: cut streams, late lines, garbage."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import LoopbackServer

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True)
class Asked:
    """A request, with its headers in lower case."""

    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """An answer: its body goes out piece by piece, a function among the pieces is called before the next one.

    ``claimed_bytes`` promises more than comes: the client sees a cut.
    """

    status: int = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes | Callable[[], object]] = ()
    claimed_bytes: int | None = None


Script = Callable[[Asked], Answer]


class ScriptedServer(LoopbackServer):
    """Answers each request with what ``script`` makes of it, on a connection of its own."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        super().__init__(partial(_Handler, self), "script")

    def list_asked(self, end: str) -> list[Asked]:
        """List the requests whose path ends so."""
        return [asked for asked in self.asked if asked.path.endswith(end)]


def answer_json(document: object, **headers: str) -> Answer:
    return Answer(headers={"Content-Type": "application/json"} | headers, pieces=(json.dumps(document).encode(),))


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: ScriptedServer, *args: Any) -> None:
        self._scripted = server
        super().__init__(*args)  # answers

    def do_GET(self) -> None:
        asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
        self._scripted.asked.append(asked)
        answer = self._scripted.script(asked)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.claimed_bytes is not None:
            self.send_header("Content-Length", str(answer.claimed_bytes))
        self.end_headers()
        for piece in answer.pieces:
            if not isinstance(piece, bytes):
                piece()
                continue
            try:
                self.wfile.write(piece)
            except OSError:  # nobody reads any more
                return

    def log_message(self, *_: object) -> None:
        """Keep the test's output to itself."""
