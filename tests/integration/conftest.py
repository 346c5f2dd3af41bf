"""Fixtures that start workers, sweepers and web servers, submit jobs, and receive webhook messages."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.database import queries, worker_queries
from shared.database.tables import Job
from shared.jobs import Kind
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.support.instances import WEB, wait_for_web
from tests.support.job_outcomes import expire_lease
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.webhook_receiver import Receiver

if TYPE_CHECKING:
    from flask import Flask

StartProcess = Callable[..., ServiceProcess]
StartWorker = Callable[..., ServiceProcess]
ServeWeb = Callable[..., tuple[ServiceProcess, Settings]]
MakeApp = Callable[..., "Flask"]


@pytest.fixture(autouse=True)
def patient_submissions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let submissions wait for inspections as long as a slow machine needs, in the applications of this process."""
    monkeypatch.setattr("web.inspections.SUBMISSION_WAIT_S", DEADLINE_S)


@pytest.fixture
def start_process(settings: Settings, tmp_path: Path) -> Iterator[StartProcess]:
    """Return a function that starts a process of the service, with the settings of the test unless others are given."""
    started: list[ServiceProcess] = []

    def start(module: str, *arguments: str, settings: Settings = settings) -> ServiceProcess:
        log = tmp_path / f"{len(started)}-{module}.log"
        started.append(ServiceProcess(module, *arguments, settings=settings, log=log))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def make_app(settings: Settings) -> Iterator[MakeApp]:
    """Return a function that makes a web application with some settings changed; the application is not served."""
    from tests.support.inspections import UploadInspections
    from tests.support.openapi_watch import watch_responses
    from web import create_app
    from web.context import get_context

    made: list[tuple[Flask, list[str], UploadInspections]] = []

    def make(**own: object) -> "Flask":
        app = create_app(settings.model_copy(update=own))
        made.append((app, watch_responses(app), UploadInspections(app, get_context(app).services.settings)))
        return app

    yield make
    for app, undescribed, uploads in made:
        uploads.close()
        get_context(app).services.close()
        assert undescribed == []


@pytest.fixture
def serve_web(settings: Settings, start_process: StartProcess) -> ServeWeb:
    """Return a function that starts the web as in production, with some settings changed, and waits for a response."""

    def serve(**own: object) -> tuple[ServiceProcess, Settings]:
        served = settings.model_copy(update={"port": reserve_port()} | own)
        web = start_process(*WEB, settings=served)
        wait_for_web(web, served)
        return web, served

    return serve


@pytest.fixture
def start_worker(start_process: StartProcess, services: Services) -> StartWorker:
    """Return a function that starts a `gated_worker`, with some settings changed, and waits for its registration."""

    def start(kinds: str = "musicgen", **own: object) -> ServiceProcess:
        arguments = ("--device", "cpu:0", "--kinds", kinds)
        settings = services.settings.model_copy(update=own)
        worker = start_process("tests.integration.gated_worker", *arguments, settings=settings)

        def is_there() -> bool:
            assert worker.process.poll() is None, worker.read_log()
            with services.database.reading() as session:
                live = worker_queries.list_live_workers(session)
            return any(name.name.endswith(f":{worker.process.pid}") for name in live)

        wait_until(is_there, "the worker")
        return worker

    return start


class Gate:
    """A job that runs until the test opens its gate. The gate is a file, and the test opens it by creating the file."""

    def __init__(self, services: Services, file: Path) -> None:
        self._services = services
        self._file = file
        self.job_id = ""

    def submit(
        self,
        *,
        ignores_stop: bool = False,
        batches: bool = False,
        saves_early: bool = False,
        then: str = "succeed",
        **others: object,
    ) -> str:
        """Submit the job.

        Parameters
        ----------
        ignores_stop
            Whether the job reports no progress, so that it does not notice that it must stop.
        batches
            Whether the job may run in the same batch as other jobs.
        saves_early
            Whether the job saves an artifact before it waits for the gate.
        then
            What the job does when the gate is open: ``succeed``, ``fail``, ``crash``, or ``fill``, which writes to a
            full disk.
        others
            Other fields of the request.
        """
        instructions = {
            "gate": str(self._file),
            "ignores_stop": ignores_stop,
            "batches": batches,
            "saves_early": saves_early,
            "then": then,
        }
        prompt = json.dumps(instructions)
        body = {"kind": Kind.MUSICGEN, "device": "cpu", "params": {"prompts": [prompt]}} | others
        self.job_id = submit.submit_job(self._services, body)[0].id
        return self.job_id

    def open(self) -> None:
        """Let the job finish."""
        self._file.touch()

    def read(self) -> Job:
        """Return the row of the job."""
        with self._services.database.reading() as session:
            return queries.get_job(session, self.job_id)

    def wait_for(self, state: str, *, attempt: int | None = None) -> Job:
        """Wait until the job is in ``state``, and at ``attempt`` if a number is given; return the row of the job."""

        def look() -> Job | None:
            job = self.read()
            return job if job.state == state and attempt in {None, job.attempt} else None

        return wait_until(look, f"job {self.job_id} to be {state}")  # type: ignore[return-value]  # a Job, never None

    def expire_lease(self) -> None:
        """Let the lease of the running attempt expire, and wait until a running sweeper has recovered the job."""
        expire_lease(self._services, self.job_id)

    def wait_for_child(self, other_than: int = 0) -> int:
        """Wait until an engine runs the job, and return the id of the process in which the engine runs.

        Parameters
        ----------
        other_than
            The id of the process of an earlier attempt, which does not count.
        """
        file = Path(f"{self._file}.pid")

        def look() -> int:
            text = file.read_text() if file.exists() else ""
            return int(text) if text and int(text) != other_than else 0

        return wait_until(look, "the engine to run")


@pytest.fixture
def make_gate(services: Services, tmp_path: Path) -> Callable[[], Gate]:
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate(services, tmp_path / f"gate-{len(made)}"))
        return made[-1]

    return make


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test alone, which the test can kill and suspend."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that receives webhook messages."""
    with Receiver() as receiver:
        yield receiver
