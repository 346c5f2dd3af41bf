"""A Redis that does not answer for some seconds, or that holds foreign data, leaves no worker without work."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared.broker import RESPONSE_TIMEOUT_S, Broker
from shared.database import queries
from shared.jobs import DeviceClass, Kind, State, name_queue
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.integration.conftest import StartProcess, StartWorker
from tests.support.network import Network, find_obstacle, make_network
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

RECOVERY_S = 15.0
"""The next job runs within this time after Redis answers again. A test asserts ten times this time."""
LOSS_S = 8.0
"""How long packets are lost."""
SILENCES = 3
"""How many timeouts of a request to Redis a silence lasts."""


@pytest.fixture
def settings(settings: Settings, own_redis: RedisServer) -> Settings:
    """Settings with a Redis of this test alone, which the test can suspend."""
    return settings.model_copy(update={"redis_url": own_redis.url})


class GatedJobs:
    """Jobs of one kind that run until their gates are opened; a worker for them is started with the object."""

    def __init__(self, kind: Kind, services: Services, folder: Path) -> None:
        self._kind = kind
        self._services = services
        self._folder = folder
        self._submitted = 0

    def submit(self) -> "GatedJob":
        self._submitted += 1
        gate = self._folder / str(self._submitted)
        prompt = json.dumps({"gate": str(gate)})
        params = {"k": self._submitted} if self._kind is Kind.KNN else {"prompts": [prompt]}
        job, _ = submit_job(self._services, {"kind": self._kind, "device": "cpu", "params": params})
        return GatedJob(self._services, job.id, gate)


class GatedJob:
    def __init__(self, services: Services, job_id: str, gate: Path) -> None:
        self._services = services
        self._id = job_id
        self._gate = gate

    def wait_until_running(self) -> None:
        wait_until(Path(f"{self._gate}.pid").exists, "the engine to run")

    def finish(self, deadline_s: float) -> None:
        """Open the gate, and wait until the job has succeeded in its first attempt."""
        self._gate.touch()
        wait_until(lambda: self._read() == (State.SUCCEEDED, 1), f"job {self._id} to succeed", deadline_s)

    def _read(self) -> tuple[State, int]:
        with self._services.database.reading() as session:
            job = queries.get_job(session, self._id)
        return State(job.state), job.attempt


@pytest.fixture(params=list(Kind))
def jobs(  # noqa: PLR0913, PLR0917 - pytest's fixtures
    request: pytest.FixtureRequest,
    services: Services,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_worker: StartWorker,
    start_process: StartProcess,
) -> GatedJobs:
    """Jobs of each kind, with a worker and a sweeper."""
    folder = tmp_path / "gates"
    folder.mkdir()
    monkeypatch.setenv("GATED_WORKER_KNN", str(folder))
    start_process("shared.maintenance")
    start_worker(request.param)
    return GatedJobs(request.param, services, folder)


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.long)])
def test_next_job_runs_after_redis_was_silent_at_the_end_of_a_job(
    own_redis: RedisServer,
    services: Services,
    jobs: GatedJobs,
    rounds: int,
) -> None:
    for _ in range(rounds):
        job = jobs.submit()
        job.wait_until_running()
        own_redis.signal(signal.SIGSTOP)
        job.finish(10 * RECOVERY_S)
        for _ in range(SILENCES):
            with pytest.raises(RedisError):
                services.broker.ping()
        own_redis.signal(signal.SIGCONT)
        answered_s = time.monotonic()
        jobs.submit().finish(10 * RECOVERY_S)
        print_recovery(f"{SILENCES * RESPONSE_TIMEOUT_S:.0f} s of silence", answered_s)


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := find_obstacle():
        pytest.skip(reason)
    with make_network() as network:
        yield network


@pytest.mark.parametrize("kind", list(Kind))
def test_next_job_runs_after_packets_between_worker_and_redis_were_lost(  # noqa: PLR0913, PLR0917 - pytest's fixtures
    network: Network,
    services: Services,
    start_process: StartProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
) -> None:
    monkeypatch.setenv("GATED_WORKER_KNN", str(tmp_path))
    redis = RedisServer(tmp_path / "remote", port=reserve_port(), password="lost")  # noqa: S106 - a server of this test
    redis.start()
    near = services.settings.model_copy(update={"redis_url": redis.url})
    far = near.model_copy(update={"redis_url": redis.url.replace("127.0.0.1", network.host)})
    near_services = Services(near, services.database, services.files, Broker(near))
    start_process("shared.maintenance", settings=near)
    program = (*network.program, sys.executable, "-m")
    arguments = ("--device", "cpu:0", "--kinds", kind)
    log = tmp_path / "worker.log"
    worker = ServiceProcess("tests.integration.gated_worker", *arguments, settings=far, log=log, program=program)
    try:
        jobs = GatedJobs(kind, near_services, tmp_path)
        job = jobs.submit()
        job.wait_until_running()
        network.drop_packets()
        job.finish(10 * RECOVERY_S)
        lost_s = time.monotonic()
        wait_until(lambda: time.monotonic() > lost_s + LOSS_S, "the end of the loss")
        network.pass_packets()
        passed_s = time.monotonic()
        jobs.submit().finish(10 * RECOVERY_S)
        print_recovery(f"{LOSS_S:.0f} s without packets", passed_s)
    finally:
        worker.close()
        near_services.broker.close()
        redis.close()


def print_recovery(fault: str, ended_s: float) -> None:
    """Print how long after the end of a fault the next job had ended; ``pytest -rP`` shows it."""
    sys.stdout.write(f"{fault}: the next job had ended {time.monotonic() - ended_s:.1f} s later\n")


def poison(redis: Redis, queue: str) -> Iterator[None]:
    """Put one kind of foreign data after another where the service keeps its messages."""
    for content in (
        "no JSON",
        "[]",
        '"text"',
        "{}",
        '{"body": 1}',
        '{"headers": {}, "properties": {}, "body": "x"}',
        b"\xff",
    ):
        redis.lpush(queue, content)
        yield
    for key in (queue, f"{queue}\x06\x163", f"_kombu.binding.{queue}", "unacked", "unacked_index", "unacked_mutex"):
        redis.delete(key)
        redis.set(key, "text")
        yield


def test_foreign_data_in_redis_is_dropped(settings: Settings, jobs: GatedJobs) -> None:
    kind = jobs._kind
    with Redis.from_url(settings.redis) as redis:
        for number, _ in enumerate(poison(redis, name_queue(kind, DeviceClass.CPU))):
            started_s = time.monotonic()
            jobs.submit().finish(10 * RECOVERY_S)
            print_recovery(f"foreign data, case {number}", started_s)
