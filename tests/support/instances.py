"""An instance for tests that need one: a complete one as ``make up`` runs it, or its web alone."""

import json
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from shared.settings import Settings
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until

START_DEADLINE_S = 90.0
WEB = ("gunicorn", "--config", "python:web.server")
"""What a process runs to be the web as in production."""


def find_port() -> int:
    """Return a port of loopback at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def make_settings(**given: Any) -> Iterator[Settings]:
    """Make the settings of an instance that brings everything with it: SQLite, Redis, files."""
    with tempfile.TemporaryDirectory(prefix="mj-home-") as folder:
        yield Settings(home=Path(folder) / "state", port=find_port(), **given, _env_file=None)


def wait_for_ready(instance: ServiceProcess, settings: Settings) -> None:
    """Wait until the instance says that jobs can be taken."""
    line = re.compile(rf"^READY http://127\.0\.0\.1:{settings.port}$", re.MULTILINE)

    def look() -> bool:
        assert instance.process.poll() is None, instance.read_log()
        return line.search(instance.read_log()) is not None

    wait_until(look, "READY", START_DEADLINE_S)


def wait_for_web(web: ServiceProcess, settings: Settings) -> None:
    """Wait until the web answers."""

    def answers() -> bool:
        assert web.process.poll() is None, web.read_log()
        try:
            return ask(settings.port, "/healthz") == HTTPStatus.OK
        except OSError:
            return False

    wait_until(answers, "the web")


def ask(port: int, path: str) -> int:
    """Ask for the head of an answer, and go; return its status."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def call(settings: Settings, path: str, body: object = None, **headers: str) -> Any:
    """Ask the instance's API, and read its answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = Request(f"http://127.0.0.1:{settings.port}{path}", data, headers)
    with urlopen(request, timeout=60) as answer:  # noqa: S310 - our own address
        return json.load(answer)
