"""A real worker on a real Redis. The worker runs jobs, and is killed, suspended or shut down during a job."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from shared.broker import Broker
from shared.database import queries, transitions, worker_queries
from shared.database.connection import now
from shared.database.migrate import ROOT
from shared.database.tables import Artifact, Job, JobEvent, Worker
from shared.files.keys import CHECKPOINTS, artifact_key, checkpoint_key
from shared.jobs import Kind, State
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.integration.conftest import Gate, StartProcess, StartWorker
from tests.integration.gpu_worker import NOTES_FOLDER
from tests.support.database_clock import read_clock
from tests.support.disks import list_keys, path_on_disk
from tests.support.processes import ServiceProcess, make_environment
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

MakeGate = Callable[[], Gate]


@pytest.fixture
def sweeper(start_process: StartProcess) -> ServiceProcess:
    return start_process("shared.maintenance")


def test_a_job_runs_and_its_files_are_stored(
    services: Services, start_worker: StartWorker, make_gate: MakeGate
) -> None:
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
    assert path_on_disk(services.files, artifact.key).read_bytes() == b"done by %d" % ended.result["pid"]


def test_killing_the_child_leads_to_a_second_attempt(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    worker = start_worker()
    gate = make_gate()
    gate.submit()
    child = gate.wait_for_child()
    os.kill(child, signal.SIGKILL)
    gate.expire_lease()
    second = gate.wait_for_child(other_than=child)
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert (ended.attempt, ended.result) == (2, {"pid": second})
    assert worker.process.poll() is None
    assert sweeper.process.poll() is None


def test_a_second_attempt_continues_from_the_checkpoint_of_the_first(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    start_worker()
    gate = make_gate()
    gate.submit()
    first = gate.wait_for_child()
    os.kill(first, signal.SIGKILL)
    gate.expire_lease()
    second = gate.wait_for_child(other_than=first)
    assert path_on_disk(services.files, checkpoint_key(gate.job_id, 2)).read_bytes() == b"%d %d " % (first, second)
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=2)
    with services.database.reading() as session:
        artifact = queries.get_artifact(session, gate.job_id, "earlier.txt")
    assert path_on_disk(services.files, artifact.key).read_bytes() == b"%d " % first
    wait_until(lambda: list_keys(services.files, CHECKPOINTS) == [], "the removal of the checkpoints")
    assert sweeper.process.poll() is None


def test_a_second_attempt_replaces_the_files_of_the_first(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    def find_recorded() -> str | None:
        with services.database.reading() as session:
            return session.scalar(select(Artifact.key).where(Artifact.name == "early.txt"))

    start_worker()
    gate = make_gate()
    gate.submit(saves_early=True)
    first = gate.wait_for_child()
    assert wait_until(find_recorded, "the first file") == artifact_key(gate.job_id, 1, "early.txt")
    os.kill(first, signal.SIGKILL)
    gate.expire_lease()
    second = gate.wait_for_child(other_than=first)
    key = artifact_key(gate.job_id, 2, "early.txt")
    wait_until(lambda: find_recorded() == key, "the second file")
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=2)
    with services.database.reading() as session:
        artifacts = queries.list_artifacts_of(session, gate.job_id)
    assert [artifact.name for artifact in artifacts] == ["earlier.txt", "early.txt", "out.txt"]
    assert path_on_disk(services.files, key).read_bytes() == b"saved by %d" % second
    assert sweeper.process.poll() is None


def test_killing_the_whole_worker_leads_to_a_second_attempt(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    first, gate = start_worker(), make_gate()
    gate.submit()
    child = gate.wait_for_child()
    first.kill_group()
    gate.expire_lease()
    start_worker()
    gate.wait_for_child(other_than=child)
    gate.open()
    assert gate.wait_for(State.SUCCEEDED).attempt == 2
    assert sweeper.process.poll() is None


def test_the_child_of_a_killed_parent_ends(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit()
    gate.wait_for_child()
    worker.signal(signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not worker.list_survivors(), "the end of the child")
    gate.expire_lease()
    assert gate.wait_for(State.QUEUED).attempt == 1
    assert sweeper.process.poll() is None


def test_the_outcome_of_a_worker_that_slept_through_its_lease_is_discarded(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    sleeping, gate = start_worker(), make_gate()
    gate.submit()
    child = gate.wait_for_child()
    processes = [psutil.Process(sleeping.process.pid), *sleeping.list_children()]
    parent_process, child_process, *_ = suspend(services, gate.job_id, processes)
    gate.expire_lease()
    gate.wait_for(State.QUEUED, attempt=1)
    start_worker()
    second = gate.wait_for_child(other_than=child)
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert (ended.attempt, ended.result) == (2, {"pid": second})
    # The child is resumed first: the watchdog in the parent would kill a child that gives no sign of life.
    child_process.resume()
    wait_until(
        lambda: f"job {gate.job_id}, attempt 1: discarded" in sleeping.read_log(), "the end of the first attempt"
    )
    parent_process.resume()
    assert gate.read().result == {"pid": second}
    with services.database.reading() as session:
        artifact = queries.get_artifact(session, gate.job_id, "out.txt")
        states = [event.data["state"] for event in session.scalars(select(JobEvent).where(JobEvent.kind == "state"))]
    assert path_on_disk(services.files, artifact.key).read_bytes() == b"done by %d" % second
    assert states == ["queued", "running", "queued", "running", "succeeded"]
    assert sweeper.process.poll() is None


def suspend(services: Services, job_id: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Suspend processes when they hold no lock on the job's row, because other writers would wait for such a lock."""

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
    # The watchdog kills a child that gives no sign of life for lease_s + grace_s. Here this is 10 s, the time of 50
    # heartbeats: so long that the second child, which does give signs of life, is not killed too.
    worker, gate = start_worker(lease_s=7.0, grace_s=3.0), make_gate()
    gate.submit()
    child = gate.wait_for_child()
    suspend(services, gate.job_id, [psutil.Process(child)])
    second = gate.wait_for_child(other_than=child)
    gate.open()
    ended = gate.wait_for(State.SUCCEEDED)
    assert (ended.attempt, ended.result) == (2, {"pid": second})
    assert f"process {child} runs a job and gives no sign of life" in worker.read_log()
    assert sweeper.process.poll() is None


def test_a_child_that_cannot_be_prepared_stops_the_worker(
    start_process: StartProcess, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATED_WORKER_BREAKS", "1")
    worker = start_process("tests.integration.gated_worker", "--device", "cpu:0", "--kinds", "musicgen")
    worker.wait()
    assert "no such library" in worker.read_log()
    with services.database.reading() as session:
        assert worker_queries.list_live_workers(session) == []


def test_a_running_job_is_cancelled(services: Services, start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    gate = make_gate()
    gate.submit()
    child = gate.wait_for_child()
    transitions.cancel(services.database, gate.job_id)
    cancelled = gate.wait_for(State.CANCELLED)
    assert cancelled.error is not None
    assert cancelled.error["type"] == "cancelled"
    assert list_keys(services.files, "jobs") == []
    next_job = make_gate()
    next_job.submit()
    assert next_job.wait_for_child() == child  # the engine stopped in time, so its process was not replaced
    next_job.open()
    next_job.wait_for(State.SUCCEEDED)


def test_an_engine_that_ignores_a_cancellation_is_killed_and_replaced(
    services: Services, start_worker: StartWorker, make_gate: MakeGate
) -> None:
    start_worker(grace_s=0.5)
    gate = make_gate()
    gate.submit(ignores_stop=True)
    child = gate.wait_for_child()
    transitions.cancel(services.database, gate.job_id)
    gate.wait_for(State.CANCELLED)
    next_job = make_gate()
    next_job.submit()
    assert next_job.wait_for_child() != child
    next_job.open()
    next_job.wait_for(State.SUCCEEDED)


def test_a_running_job_times_out(services: Services, start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    gate = make_gate()
    gate.submit()
    gate.wait_for_child()
    with services.database.writing() as session:
        session.execute(update(Job).values(deadline_at=now(-1.0)))
    failed = gate.wait_for(State.FAILED)
    assert failed.attempt == 1
    assert failed.error is not None
    assert failed.error["type"] == "timeout"


def test_a_job_without_progress_fails_as_worker_lost_after_its_last_attempt(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    start_worker(stall_s=0.5)
    gate = make_gate()
    gate.submit(ignores_stop=True, max_attempts=2)
    failed = gate.wait_for(State.FAILED)
    assert failed.attempt == 2
    assert failed.error is not None
    assert failed.error["type"] == "worker-lost"
    assert sweeper.process.poll() is None


@pytest.mark.parametrize(
    ("then", "error_type"), [("fail", "refused"), ("crash", "internal-error"), ("fill", "disk-full")]
)
def test_an_error_of_the_engine_fails_the_job_but_not_the_worker(
    start_worker: StartWorker, make_gate: MakeGate, then: str, error_type: str
) -> None:
    worker = start_worker()
    gate = make_gate()
    gate.submit(then=then, max_attempts=1)
    gate.open()
    failed = gate.wait_for(State.FAILED)
    assert failed.attempt == 1
    assert failed.error is not None
    assert failed.error["type"] == error_type
    assert "/a/path" not in str(failed.error)
    if then == "crash":
        assert "/a/path" in worker.read_log()
    next_job = make_gate()
    next_job.submit()
    next_job.open()
    next_job.wait_for(State.SUCCEEDED)


def test_job_that_finds_the_disk_full_runs_again_after_a_growing_pause(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    start_worker(retry_delay_s=0.05)
    gate = make_gate()
    gate.submit(then="fill", max_attempts=3)
    gate.open()
    failed = gate.wait_for(State.FAILED, attempt=3)
    assert failed.error is not None
    assert failed.error["type"] == "disk-full"
    with services.database.reading() as session:
        changes = session.scalars(select(JobEvent).where(JobEvent.job_id == gate.job_id, JobEvent.kind == "state"))
        times = [event.at for event in changes]
    # queued, running, queued, running, queued, running, failed
    assert len(times) == 7
    first, second = (times[index + 1] - times[index] for index in (2, 4))
    assert timedelta(seconds=30 * 0.05) <= first
    assert timedelta(seconds=60 * 0.05) <= second
    assert sweeper.process.poll() is None


def test_sigquit_queues_the_running_job_again(
    services: Services, start_worker: StartWorker, make_gate: MakeGate
) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit(max_attempts=1)
    gate.wait_for_child()
    worker.signal(signal.SIGQUIT)
    worker.wait()
    assert gate.read().state == State.QUEUED
    wait_until(lambda: not worker.list_survivors(), "the end of the child")
    with services.database.reading() as session:
        assert session.scalars(select(Worker)).all() == []


def test_sigterm_lets_the_running_job_finish(start_worker: StartWorker, make_gate: MakeGate) -> None:
    worker, gate = start_worker(), make_gate()
    gate.submit()
    gate.wait_for_child()
    worker.signal(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.read_log(), "the worker to receive the signal")
    gate.open()
    assert worker.wait() == 0
    assert gate.read().state == State.SUCCEEDED


def test_two_workers_of_one_device_class_share_its_queue(start_worker: StartWorker, make_gate: MakeGate) -> None:
    start_worker()
    start_worker()
    gates = [make_gate(), make_gate()]
    for gate in gates:
        gate.submit()
    children = {gate.wait_for_child() for gate in gates}  # both jobs run at the same time
    assert len(children) == 2
    for gate in gates:
        gate.open()
        gate.wait_for(State.SUCCEEDED)


def test_a_job_for_the_device_auto_runs_on_the_device_class_that_has_a_worker(
    services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    early, late = make_gate(), make_gate()
    early.submit(device="auto")
    assert early.read().device is None  # no worker has started yet
    early.open()
    start_worker()
    assert early.wait_for(State.SUCCEEDED).device == "cpu"
    late.submit(device="auto")
    assert late.read().device == "cpu"
    late.open()
    assert late.wait_for(State.SUCCEEDED).device == "cpu"
    with services.database.reading() as session:
        assert worker_queries.choose_device(session, Kind.KNN) is None
    assert sweeper.process.poll() is None


def test_a_worker_registers_its_engines_and_precisions(services: Services, start_worker: StartWorker) -> None:
    start_worker()
    with services.database.reading() as session:
        [worker] = worker_queries.list_live_workers(session)
    assert (worker.device, worker.device_index, worker.kinds) == ("cpu", 0, ["musicgen"])
    assert worker.engines == {"musicgen": "gated"}
    assert worker.precisions == {"musicgen": ["float32", "int8"]}


@pytest.mark.parametrize(
    ("device", "reason"), [("cpu:7", "MINDJOBS_CPU_SHARES"), ("gpu:0", "MindSpore cannot compute on gpu:0")]
)
def test_a_worker_does_not_start_if_its_device_is_not_available(settings: Settings, device: str, reason: str) -> None:
    started = subprocess.run(
        [sys.executable, "-m", "worker", "--device", device, "--kinds", "knn"],
        cwd=ROOT,
        env=make_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode != 0
    assert started.stderr.startswith("mindjobs worker: The device is not available")
    assert reason in started.stderr
    assert "Traceback" not in started.stderr


def test_a_gpu_worker_does_not_load_mindspore_if_its_backend_does_not_need_mindspore(
    services: Services, start_process: StartProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv(NOTES_FOLDER, str(notes))
    worker = start_process("tests.integration.gpu_worker", "--device", "gpu:0", "--kinds", "knn")
    job_id = submit.submit_job(services, {"kind": "knn", "device": "gpu"})[0].id

    def find_ended() -> Job | None:
        assert worker.process.poll() is None, worker.read_log()
        with services.database.reading() as session:
            job = queries.get_job(session, job_id)
        return job if job.finished_at else None

    ended = wait_until(find_ended, "the job to end")
    assert ended is not None
    assert (ended.state, ended.device, ended.engine) == (State.SUCCEEDED, "gpu", "toy")
    assert ended.result == {"mindspore": [], "visible": "0"}
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert (notes / "probed").read_text() == "gpu:0"
    assert (notes / "parent").read_text() == "[]"


def test_neither_the_web_nor_the_sweeper_nor_the_parent_process_of_a_worker_loads_mindspore() -> None:
    for module in (
        "web",
        "web.server",
        "worker.__main__",
        "worker.celery_app",
        "shared.maintenance",
        "shared.instance.up",
    ):
        check = (
            f"import sys, {module}; sys.exit(' '.join(m for m in ('mindspore', 'mindnlp') if m in sys.modules) or 0)"
        )
        checked = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), module


def test_a_submission_succeeds_without_a_broker(settings: Settings, services: Services) -> None:
    unreachable = settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock?db=0"})
    broker = Broker(unreachable)
    without_broker = Services(unreachable, services.database, services.files, broker)
    job, created = submit.submit_job(without_broker, {"kind": "knn", "device": "cpu"})
    broker.close()
    assert created
    assert job.state == State.QUEUED


def test_idle_worker_that_leaves_a_job_waiting_is_shown_and_stops(
    settings: Settings, services: Services, start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    app = create_app(settings.model_copy(update={"stalled_worker_s": 2.0}))
    client = app.test_client()
    worker = start_worker(stalled_worker_s=2.0, worker_heartbeat_s=0.5, heartbeat_s=10.0)
    (child,) = worker.list_children()
    child.suspend()
    gate = make_gate()
    gate.submit()

    def find_stalled() -> list[str]:
        devices = client.get("/api/v1/devices").json["devices"]  # type: ignore[index]  # a JSON object
        return [name for device in devices for name in device["workers_stalled"]]

    name = wait_until(find_stalled, "the stalled worker")
    with services.database.reading() as session:
        assert name == [live.name for live in worker_queries.list_live_workers(session)]
    assert client.get("/readyz").json == {"status": "ready", "stalled_workers": 1}
    assert 'mindjobs_workers_stalled{device="cpu"} 1.0' in client.get("/metrics").text
    worker.wait()
    assert "this worker is idle although jobs wait" in worker.read_log()
    start_worker()
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=1)
    assert client.get("/readyz").json == {"status": "ready"}
    get_context(app).services.close()
    assert sweeper.process.poll() is None


def test_worker_whose_idle_child_takes_no_message_stops_after_a_few_checks(
    start_worker: StartWorker, sweeper: ServiceProcess, make_gate: MakeGate
) -> None:
    worker = start_worker()
    (child,) = worker.list_children()
    child.suspend()
    gate = make_gate()
    gate.submit()
    worker.wait()
    assert "takes no message, although it is idle" in worker.read_log()
    wait_until(lambda: not worker.list_survivors(), "the end of the child")
    start_worker()
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=1)
    assert sweeper.process.poll() is None


def test_worker_whose_next_child_is_not_ready_yet_keeps_its_message(
    services: Services, start_worker: StartWorker, make_gate: MakeGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    monkeypatch.setenv("GATED_WORKER_START", str(started))
    started.touch()
    worker = start_worker()
    (child,) = worker.list_children()
    started.unlink()
    child.kill()
    gate = make_gate()
    gate.submit()
    waited = gate.read().available_at + timedelta(seconds=3)
    wait_until(lambda: read_clock(services.database) > waited, "longer than an idle child may leave a message")
    started.touch()
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=1)
    assert worker.process.poll() is None


def test_worker_that_is_busy_is_not_stalled(services: Services, start_worker: StartWorker, make_gate: MakeGate) -> None:
    worker = start_worker(stalled_worker_s=0.5, worker_heartbeat_s=0.2)
    running, waiting = make_gate(), make_gate()
    running.submit()
    running.wait_for_child()
    waiting.submit()
    waited = waiting.read().available_at + timedelta(seconds=3)
    wait_until(lambda: read_clock(services.database) > waited, "a long wait")
    running.open()
    waiting.open()
    waiting.wait_for(State.SUCCEEDED, attempt=1)
    assert worker.process.poll() is None
