"""A server on loopback that behaves like the Hugging Face hub, and that tests can make fail.

It serves the requests that the library ``huggingface_hub`` sends to the hub.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import LoopbackServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Refusal:
    """An error response to every request."""

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """A request that the hub received."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    sent: int = 0
    """How many bytes of the file were sent in the response."""

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]


class FakeHub(LoopbackServer):
    """Serves models from memory. With most attributes, a test can make requests fail or wait.

    Attributes
    ----------
    models
        The models, keyed by name. A model is the content of each of its files, keyed by the name of the file.
    asked
        All requests that were received.
    refusal
        The response to every request; ``None`` to serve the models.
    token
        The token that every request must have; ``None`` to accept every request.
    cut_at
        The position in a file at which a response ends and its connection is closed.
    cuts
        How many further responses are cut at ``cut_at``.
    hold_at
        The position in a file at which each response waits until `release` is called.
    claimed_bytes
        The size that is stated for all weights before they are sent; ``None`` for the true size.
    redirect_to
        The address of a server to which every request is redirected; ``None`` to answer the requests.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.asked: list[Asked] = []
        self.refusal: Refusal | None = None
        self.token: str | None = None
        self.cut_at: int | None = None
        self.cuts = 0
        self.hold_at: int | None = None
        self.released = threading.Event()
        self.claimed_bytes: int | None = None
        self.redirect_to: str | None = None
        super().__init__(partial(_Handler, self), "hub")

    def release(self) -> None:
        """Continue the responses that wait at ``hold_at``."""
        self.released.set()

    def list_gets(self, file: str) -> list[Asked]:
        """List the GET requests for a file."""
        return [asked for asked in self.asked if asked.method == "GET" and asked.file == file]

    def describe(self, name: str) -> dict[str, Any]:
        """Describe a model in the format of the hub's API: only weights are large files (LFS)."""
        siblings = []
        for file, content in self.models[name].items():
            size = self.get_stated_bytes(file, content)
            tag = make_tag(content)
            large = {"lfs": {"size": size, "sha256": tag, "pointerSize": 135}} if file.endswith(".safetensors") else {}
            siblings.append({"rfilename": file, "size": size, "blobId": tag} | large)
        return {"id": name, "sha": COMMIT, "siblings": siblings}

    def get_stated_bytes(self, file: str, content: bytes) -> int:
        """Return the size that the hub states for a file."""
        return self.claimed_bytes if self.claimed_bytes and file.endswith(".safetensors") else len(content)


def make_tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *args: Any) -> None:
        self._hub = hub
        super().__init__(*args)  # handles the request

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Log nothing, so that no request appears in the output of the tests."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        asked = Asked(self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
        self._hub.asked.append(asked)
        if self._hub.redirect_to is not None:
            self._redirect(path, self._hub.redirect_to)
        elif self._hub.refusal is not None:
            self._send(self._hub.refusal.status, b"", self._hub.refusal.headers)
        elif self._hub.token is not None and asked.authorization != f"Bearer {self._hub.token}":
            self._send(HTTPStatus.UNAUTHORIZED, b"", {"X-Error-Code": "RepoNotFound"})
        else:
            self._serve(asked)

    def _serve(self, asked: Asked) -> None:
        parts = asked.path.strip("/").split("/")
        match parts:
            case ["api", "models", owner, model, *_] if f"{owner}/{model}" in self._hub.models:
                content = json.dumps(self._hub.describe(f"{owner}/{model}")).encode()
                self._send(HTTPStatus.OK, content, {"Content-Type": "application/json"})
            case [owner, model, "resolve", _, file] if file in self._hub.models.get(f"{owner}/{model}", {}):
                self._send_file(asked, self._hub.models[f"{owner}/{model}"][file])
            case ["api", *_]:
                self._send(HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "RepoNotFound"})
            case _:
                self._send(HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound"})

    def _redirect(self, path: str, to: str) -> None:
        """Redirect to another server, as the real hub does for large files; the headers describe the file."""
        _, owner, model, *_, file = path.split("/")
        content = self._hub.models.get(f"{owner}/{model}", {}).get(file, b"")
        described = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": make_tag(content), "X-Repo-Commit": COMMIT}
        self._send(HTTPStatus.FOUND, b"", {"Location": f"{to}{path}"} | (described if content else {}))

    def _send(self, status: HTTPStatus, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_file(self, asked: Asked, content: bytes) -> None:
        start = int(asked.range.removeprefix("bytes=").removesuffix("-")) if asked.range else 0
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked.range else HTTPStatus.OK)
        self.send_header("ETag", f'"{make_tag(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(self._hub.get_stated_bytes(asked.file, content)))
        # With these two headers, the real hub offers its newer way to download, Xet, which the service does not use.
        self.send_header("X-Xet-Hash", make_tag(content))
        self.send_header("X-Xet-Refresh-Route", f"{self._hub.url}/xet")
        self.send_header("Content-Length", str(len(content) - start))
        if asked.range:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self._send_content(asked, content, start)

    def _send_content(self, asked: Asked, content: bytes, start: int) -> None:
        end = len(content)
        if self._hub.cuts and self._hub.cut_at is not None and start <= self._hub.cut_at < end:
            self._hub.cuts -= 1
            end = self._hub.cut_at
            self.close_connection = True
        for stop in sorted({self._hub.hold_at or end, end}):
            if start < stop <= end:
                try:
                    self.wfile.write(content[start:stop])
                except OSError:  # the client has closed the connection
                    return
                asked.sent += stop - start
                start = stop
            if start == self._hub.hold_at:
                self._hub.released.wait()
