"""A server on loopback whose responses a test defines: cut streams, late lines, malformed content."""

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
    """A request that the server received; the names of the headers are in lower case."""

    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """A response.

    Parameters
    ----------
    pieces
        The parts of the body, sent one by one. A part that is a function is not sent, but called before the next part.
    claimed_bytes
        The ``Content-Length``. If it is larger than the body, the client detects that the response was cut.
    """

    status: int = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes | Callable[[], object]] = ()
    claimed_bytes: int | None = None


Script = Callable[[Asked], Answer]


class ScriptedServer(LoopbackServer):
    """Answers each request with the response that ``script`` returns for it; each connection serves one request."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        super().__init__(partial(_Handler, self), "script")

    def list_asked(self, end: str) -> list[Asked]:
        """List the requests whose path ends with ``end``."""
        return [asked for asked in self.asked if asked.path.endswith(end)]


def answer_json(document: object, **headers: str) -> Answer:
    return Answer(headers={"Content-Type": "application/json"} | headers, pieces=(json.dumps(document).encode(),))


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: ScriptedServer, *args: Any) -> None:
        self._scripted = server
        super().__init__(*args)  # handles the request

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
            except OSError:  # the client has closed the connection
                return

    def log_message(self, *_: object) -> None:
        """Log nothing, so that no request appears in the output of the tests."""
