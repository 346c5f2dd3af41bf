"""Instances of the service for tests: a complete instance, as ``make up`` runs it, or only the web process."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.instance.ready import format_address
from shared.settings import Settings
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.waiting import DEADLINE_S, wait_until

WEB = ("gunicorn", "--config", "python:web.server")
"""The module and the arguments that start the web process as in production."""


@contextmanager
def make_settings(**given: Any) -> Iterator[Settings]:
    """Make the settings of an instance that needs no other server: SQLite, a Redis of its own, and local files."""
    with tempfile.TemporaryDirectory(prefix="mj-home-") as folder:
        yield Settings(home=Path(folder) / "state", port=reserve_port(), **given, _env_file=None)


def start_by_make(settings: Settings, log: Path, within: Sequence[str] = ()) -> ServiceProcess:
    """Start a complete instance by ``make up``, which uses the environment of the tests and installs nothing.

    Parameters
    ----------
    within
        What to put in front of the command line, for example to run it in a network namespace.
    """
    arguments = ("--old-file=.venv/.run-installed", f"BIN={Path(sys.executable).parent}", "up")
    return ServiceProcess(*arguments, program=[*within, "make"], settings=settings, log=log)


def read_command(process: psutil.Process) -> list[str]:
    """Return the words of the command line of a process; no words if the process has ended."""
    try:
        return process.cmdline()
    except psutil.Error:  # the process has just ended
        return []


def read_name(process: psutil.Process) -> str:
    """Return the name that Supervisor gave to the process or to the process above it; nothing for other processes."""
    try:
        if process.name() in {"redis-server", "valkey-server"}:  # these overwrite their environment with their title
            return "redis"
        return str(process.environ().get("SUPERVISOR_PROCESS_NAME", ""))
    except psutil.Error:  # the process has just ended
        return ""


def find_program(instance: ServiceProcess, name: str) -> list[psutil.Process]:
    """List the processes of one of the instance's programs, and the uppermost of them first."""
    found = [process for process in instance.list_children() if read_name(process) == name]

    def is_below_another(process: psutil.Process) -> bool:
        try:
            return process.parent() in found
        except psutil.Error:  # the process has just ended
            return True

    return sorted(found, key=is_below_another)


def wait_for_ready(instance: ServiceProcess, settings: Settings) -> None:
    """Wait until the instance prints ``READY``, which means that jobs can be submitted."""
    line = re.compile(rf"^READY http://{re.escape(settings.authority)}$", re.MULTILINE)

    def look() -> bool:
        assert instance.process.poll() is None, instance.read_log()
        return line.search(instance.read_log()) is not None

    wait_until(look, "READY")
    assert instance.listens_at(settings.port)


def wait_for_web(web: ServiceProcess, settings: Settings) -> None:
    """Wait until this web process, and not another process, answers at the port."""

    def answers() -> bool:
        assert web.process.poll() is None, web.read_log()
        return web.listens_at(settings.port) and ask(settings.port, "/healthz") == HTTPStatus.OK

    wait_until(answers, "the web")


@contextmanager
def run_web(settings: Settings, log: Path) -> Iterator[None]:
    """Run only the web process, with a migrated database, while the block runs."""
    settings.home.mkdir(exist_ok=True)
    with closing(Database(settings.database)) as database:
        migrate(database)
    web = ServiceProcess(*WEB, settings=settings, log=log)
    try:
        wait_for_web(web, settings)
        yield
    finally:
        web.close()


def ask(port: int, path: str, **headers: str) -> int:
    """Send a GET request, and return the status of the response without reading the body."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as connection:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status


def call(settings: Settings, path: str, body: object = None, **headers: str) -> Any:
    """Send a request to the API of the instance, and return the JSON of the response."""
    data = json.dumps(body).encode() if body is not None else None
    request = Request(f"{format_address(settings)}{path}", data, headers)  # noqa: S310 - our own address
    with urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310 - our own address
        return json.load(answer)


def run_job(settings: Settings, body: object) -> Any:
    """Submit a job to the instance, wait until the job has ended, and return the job."""
    return wait_for_end(settings, f"/api/v1/jobs/{call(settings, '/api/v1/jobs', body)['id']}")


def wait_for_end(settings: Settings, path: str, **headers: str) -> Any:
    """Wait until the job at a path of the API has ended, and return the job."""

    def look() -> Any:
        job = call(settings, path, Prefer="wait=60", **headers)
        return job if job["finished_at"] else None

    return wait_until(look, f"the end of {path}")
