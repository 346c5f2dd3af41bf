"""A complete instance for tests that need one, as ``make up`` runs it."""

import json
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from shared.settings import Settings
from tests.processes import ServiceProcess
from tests.waiting import wait_until

START_DEADLINE_S = 90.0


@contextmanager
def make_settings(**given: Any) -> Iterator[Settings]:
    """Make the settings of an instance that brings everything with it: SQLite, Redis, files."""
    with tempfile.TemporaryDirectory(prefix="mj-home-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        yield Settings(home=Path(folder) / "state", port=port, **given, _env_file=None)


def wait_for_ready(instance: ServiceProcess, settings: Settings) -> None:
    """Wait until the instance says that jobs can be taken."""
    line = re.compile(rf"^READY http://127\.0\.0\.1:{settings.port}$", re.MULTILINE)

    def look() -> bool:
        assert instance.process.poll() is None, instance.read_log()
        return line.search(instance.read_log()) is not None

    wait_until(look, "READY", START_DEADLINE_S)


def call(settings: Settings, path: str, body: object = None, **headers: str) -> Any:
    """Ask the instance's API, and read its answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = Request(f"http://127.0.0.1:{settings.port}{path}", data, headers)
    with urlopen(request, timeout=60) as answer:  # noqa: S310 - our own address
        return json.load(answer)
