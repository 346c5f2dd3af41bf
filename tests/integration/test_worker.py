"""A real worker on a real Redis, killed, stopped and told to go at the worst moment."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from shared.broker import Broker
from shared.database import queries, transitions
from shared.database.migrate import ROOT
from shared.database.tables import Job, JobEvent, Worker
from shared.files.local import CHECKPOINTS, checkpoint_key
from shared.jobs import Kind, State
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.integration.conftest import Gate, StartProcess
from tests.support.processes import ServiceProcess, write_environment
from tests.support.waiting import wait_until

StartWorker = Callable[[], ServiceProcess]
MakeGate = Callable[[], Gate]


@pytest.fixture
def sweeper(start_process: StartProcess) -> ServiceProcess:
    return start_process("shared.maintenance")


def test_a_job_runs_and_its_files_are_there(services: Services, start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    gate = make_gate()
    gate.submit()
    running = gate.wait_for(State.RUNNING)
    assert (running.attempt, running.device, running.engine) == (1, "cpu", "gated")
    wait_until(lambda: gate.read().progress_stage == "waiting", "progress")
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert ended.result is not None
    with services.database.reading() as session:
        artifact = queries.get_artifact(session, ended.id, "out.txt")
    assert services.storage.locate(artifact.path).read_bytes() == b"done by %d" % ended.result["pid"]


def test_killing_the_child_makes_a_second_attempt(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    worker = start_worker()
    gate = make_gate()
    gate.submit()
    child = gate.wait_for_child()
    os.kill(child, signal.SIGKILL)
    second = gate.wait_for_child(other_than=child)
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert (ended.attempt, ended.result) == (2, {"pid": second})
    assert worker.process.poll() is None
    assert sweeper.process.poll() is None


def test_a_second_attempt_goes_on_from_the_checkpoint_of_the_first(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    start_worker()
    gate = make_gate()
    gate.submit()
    first = gate.wait_for_child()
    os.kill(first, signal.SIGKILL)
    second = gate.wait_for_child(other_than=first)
    assert services.storage.locate(checkpoint_key(gate.job_id, 2)).read_bytes() == b"%d %d " % (first, second)
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=2)
    with services.database.reading() as session:
        artifact = queries.get_artifact(session, gate.job_id, "earlier.txt")
    assert services.storage.locate(artifact.path).read_bytes() == b"%d " % first
    wait_until(lambda: services.storage.list_names(CHECKPOINTS) == [], "the end of the checkpoints")
    assert sweeper.process.poll() is None


def test_killing_the_whole_worker_makes_a_second_attempt(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    first, gate = start_worker(), make_gate()
    gate.submit()
    child = gate.wait_for_child()
    first.kill_group()
    start_worker()
    gate.wait_for_child(other_than=child)
    gate.open()
    assert gate.wait_for(State.SUCCEEDED).attempt == 2
    assert sweeper.process.poll() is None


def test_the_child_of_a_killed_parent_does_not_go_on(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit()
    gate.wait_for_child()
    worker.signal(signal.SIGKILL)
    worker.wait(10)
    wait_until(lambda: not worker.list_survivors(), "the orphan's end")
    assert gate.wait_for(State.QUEUED).attempt == 1
    assert sweeper.process.poll() is None


def test_a_finish_after_a_long_sleep_is_discarded(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    sleeper, gate = start_worker(), make_gate()
    gate.submit()
    child = gate.wait_for_child()
    asleep = suspend(services, gate.job_id, [psutil.Process(sleeper.process.pid), *sleeper.list_children()])
    gate.wait_for(State.QUEUED, attempt=1)
    start_worker()
    second = gate.wait_for_child(other_than=child)
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert (ended.attempt, ended.result) == (2, {"pid": second})
    # The child first: its parent would take it for dead.
    asleep[1].resume()
    wait_until(lambda: f"job {gate.job_id}, attempt 1: discarded" in sleeper.read_log(), "the stale attempt's end")
    asleep[0].resume()
    assert gate.read().result == {"pid": second}
    with services.database.reading() as session:
        artifact = queries.get_artifact(session, gate.job_id, "out.txt")
        states = [event.data["state"] for event in session.scalars(select(JobEvent).where(JobEvent.kind == "state"))]
    assert services.storage.locate(artifact.path).read_bytes() == b"done by %d" % second
    assert states == ["queued", "running", "queued", "running", "succeeded"]
    assert sweeper.process.poll() is None


def suspend(services: Services, job_id: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Stop processes at a moment when they hold no lock on the job, as one that is stopped for long may not."""

    def stop() -> bool:
        for process in processes:
            process.suspend()
        try:
            with services.database.writing() as session:
                session.execute(select(Job.id).where(Job.id == job_id).with_for_update(nowait=True))
        except OperationalError:
            for process in processes:
                process.resume()
            return False
        return True

    wait_until(stop, "a moment without a lock")
    return processes


def test_a_child_that_gives_no_sign_of_life_is_killed_and_replaced(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit()
    child = gate.wait_for_child()
    suspend(services, gate.job_id, [psutil.Process(child)])
    second = gate.wait_for_child(other_than=child)
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert (ended.attempt, ended.result) == (2, {"pid": second})
    assert f"process {child} runs a job and gives no sign of life" in worker.read_log()
    assert sweeper.process.poll() is None


def test_a_child_that_cannot_be_made_ready_stops_the_worker(
    start_process: StartProcess, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATED_WORKER_BREAKS", "1")
    worker = start_process("tests.integration.gated_worker", "--device", "cpu:0", "--kinds", "musicgen")
    worker.wait(60)
    assert "no such library" in worker.read_log()
    with services.database.reading() as session:
        assert queries.list_live_workers(session) == []


def test_a_running_job_is_cancelled(services: Services, start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    gate = make_gate()
    gate.submit()
    child = gate.wait_for_child()
    transitions.cancel(services.database, gate.job_id)
    cancelled = gate.wait_for(State.CANCELLED)
    assert cancelled.error is not None
    assert cancelled.error["type"] == "cancelled"
    assert services.storage.list_old_files("jobs", -60) == []
    following = make_gate()
    following.submit()
    assert following.wait_for_child() == child  # an engine that stops when told to keeps its process
    following.open()
    following.wait_for(State.SUCCEEDED)


def test_an_engine_that_does_not_hear_is_killed_and_replaced(
    services: Services, start_worker: StartWorker, make_gate: MakeGate
) -> None:
    start_worker()
    gate = make_gate()
    gate.submit(deaf=True)
    child = gate.wait_for_child()
    transitions.cancel(services.database, gate.job_id)
    gate.wait_for(State.CANCELLED)
    following = make_gate()
    following.submit()
    assert following.wait_for_child() != child
    following.open()
    following.wait_for(State.SUCCEEDED)


def test_a_running_job_times_out(start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    gate = make_gate()
    gate.submit(timeout_s=5.0)
    failed = gate.wait_for(State.FAILED)
    assert failed.attempt == 1
    assert failed.error is not None
    assert failed.error["type"] == "timeout"


def test_an_engine_without_progress_is_a_lost_attempt(
    settings: Settings, start_process: StartProcess, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    impatient = settings.model_copy(update={"stall_s": 0.5})
    start_process("tests.integration.gated_worker", "--device", "cpu:0", "--kinds", "musicgen", settings=impatient)
    gate = make_gate()
    gate.submit(deaf=True, max_attempts=2)
    failed = gate.wait_for(State.FAILED)
    assert failed.attempt == 2
    assert failed.error is not None
    assert failed.error["type"] == "worker-lost"
    assert sweeper.process.poll() is None


@pytest.mark.parametrize(
    ("then", "error_type"), [("fail", "told-to"), ("crash", "internal-error"), ("fill", "disk-full")]
)
def test_an_engines_error_fails_the_job_and_spares_the_worker(
    start_worker: StartWorker, make_gate: MakeGate, then: str, error_type: str
) -> None:
    worker = start_worker()
    gate = make_gate()
    gate.submit(then=then)
    gate.open()
    failed = gate.wait_for(State.FAILED)
    assert failed.attempt == 1
    assert failed.error is not None
    assert failed.error["type"] == error_type
    assert "/a/path" not in str(failed.error)
    if then == "crash":
        assert "/a/path" in worker.read_log()
    following = make_gate()
    following.submit()
    following.open()
    following.wait_for(State.SUCCEEDED)


def test_sigquit_hands_the_job_back(services: Services, start_worker: StartWorker, make_gate: MakeGate) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit(max_attempts=1)
    gate.wait_for_child()
    worker.signal(signal.SIGQUIT)
    worker.wait(15)
    assert gate.read().state == State.QUEUED
    assert not worker.list_survivors()
    with services.database.reading() as session:
        assert session.scalars(select(Worker)).all() == []


def test_sigterm_finishes_the_job_first(start_worker: StartWorker, make_gate: MakeGate) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit()
    gate.wait_for_child()
    worker.signal(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.read_log(), "the worker to hear")
    gate.open()
    assert worker.wait(15) == 0
    assert gate.read().state == State.SUCCEEDED


def test_two_workers_of_one_class_share_its_queue(start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    start_worker()
    gates = [make_gate(), make_gate()]
    for gate in gates:
        gate.submit()
    children = {gate.wait_for_child() for gate in gates}  # both run at once
    assert len(children) == 2
    for gate in gates:
        gate.open()
        gate.wait_for(State.SUCCEEDED)


def test_auto_takes_the_class_that_has_a_worker(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    early, late = make_gate(), make_gate()
    early.submit(device="auto")
    assert early.read().device is None  # nobody is there yet
    early.open()
    start_worker()
    assert early.wait_for(State.SUCCEEDED).device == "cpu"
    late.submit(device="auto")
    assert late.read().device == "cpu"
    late.open()
    assert late.wait_for(State.SUCCEEDED).device == "cpu"
    with services.database.reading() as session:
        assert queries.choose_device(session, Kind.KNN) is None
    assert sweeper.process.poll() is None


def test_a_device_that_is_not_there_stops_the_start(settings: Settings) -> None:
    for device, reason in {"cpu:7": "MINDJOBS_CPU_SHARES", "gpu:0": "MindSpore cannot compute on it"}.items():
        started = subprocess.run(
            [sys.executable, "-m", "worker", "--device", device, "--kinds", "knn"],
            cwd=ROOT,
            env=write_environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.returncode != 0
        assert started.stderr.startswith("mindjobs worker: The device is not there")
        assert reason in started.stderr
        assert "Traceback" not in started.stderr


def test_neither_web_nor_a_workers_parent_loads_mindspore() -> None:
    for module in (
        "web",
        "web.server",
        "worker.__main__",
        "worker.celery_app",
        "shared.maintenance",
        "shared.instance.up",
    ):
        look = f"import sys, {module}; sys.exit(' '.join(m for m in ('mindspore', 'mindnlp') if m in sys.modules) or 0)"
        looked = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (looked.returncode, looked.stderr) == (0, ""), module


def test_submission_survives_a_broker_that_is_not_there(settings: Settings, services: Services) -> None:
    nowhere = settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock?db=0"})
    broker = Broker(nowhere)
    cut_off = Services(nowhere, services.database, services.storage, broker)
    job, created = submit.submit_job(cut_off, {"kind": "knn", "device": "cpu"})
    broker.close()
    assert created
    assert job.state == State.QUEUED
