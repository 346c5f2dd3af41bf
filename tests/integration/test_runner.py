"""Files of a job are synced to the disk, then recorded while the job still runs. A full disk fails the last attempt."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from shared.database import queries
from shared.database.tables import Artifact, Job
from shared.files.local import LocalFileStore
from shared.jobs import DeviceClass, EventKind, Kind, State
from shared.services import Services
from shared.submission import submit
from shared.texts import render_error
from tests.support.disks import fill_disk, list_keys, path_on_disk, record_syncs
from tests.support.engine_specs import make_engine_spec
from tests.support.waiting import DEADLINE_S, wait_until
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import JobContext
from worker.runner import Runner
from worker.watchdog import ChildStatus

Work = Callable[[JobContext[Any]], object]
RunJob = Callable[[Work], Job]


class FakeEngine:
    """Runs one job at a time, by calling a function that the test provides."""

    name = "fake"

    def __init__(self, work: Work) -> None:
        self._work = work

    def prepare(self) -> None:
        raise NotImplementedError

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        self._work(context)
        return {}


class BlockedStore(LocalFileStore):
    """A file store whose `sync` waits until the test sets the event `released`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.released = threading.Event()

    def sync(self, keys: Any) -> None:
        assert self.released.wait(DEADLINE_S)
        super().sync(keys)


@pytest.fixture
def job_id(services: Services) -> str:
    return submit.submit_job(services, {"kind": "knn", "device": "cpu", "max_attempts": 1})[0].id


@pytest.fixture
def run_job(services: Services, job_id: str, monkeypatch: pytest.MonkeyPatch) -> RunJob:
    def run(work: Work) -> Job:
        run_with(services, work, monkeypatch)
        return read_job(services, job_id)

    return run


def run_with(services: Services, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, Kind.KNN, make_engine_spec(lambda: FakeEngine(work)))
    Runner(services, Device(DeviceClass.CPU, 0), [Kind.KNN], "w1", ChildStatus()).run_queued_jobs()


def read_job(services: Services, job_id: str) -> Job:
    with services.database.reading() as session:
        return queries.get_job(session, job_id)


def wait_for_heartbeat(services: Services, job_id: str) -> None:
    before = read_job(services, job_id).lease_until
    wait_until(lambda: read_job(services, job_id).lease_until != before, "a heartbeat")


def list_recorded(services: Services, job_id: str) -> list[str]:
    """List the names of all artifacts in the database, including artifacts that clients cannot see yet."""
    with services.database.reading() as session:
        return [*session.scalars(select(Artifact.name).where(Artifact.job_id == job_id).order_by(Artifact.name))]


def check_disk_full(job: Job, services: Services) -> None:
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    shown = render_error(job.error)
    assert (shown["type"], shown["title"]) == ("disk-full", "The disk is full")
    assert services.settings.storage in shown["detail"]
    assert "Free some space" in shown["detail"]


def test_an_artifact_that_does_not_fit_on_the_disk_fails_the_job(
    services: Services, job_id: str, run_job: RunJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(services.files, f"jobs/{job_id}/1", monkeypatch)
    ended = run_job(lambda context: context.save("out.wav", "audio/wav", b"x" * 2**20))
    check_disk_full(ended, services)
    assert list_keys(services.files, f"jobs/{job_id}/1") == []


def test_a_file_that_the_engine_writes_itself_fails_the_job_if_the_disk_is_full(
    services: Services, run_job: RunJob
) -> None:
    check_disk_full(run_job(lambda _: Path("/dev/full").write_bytes(b"x")), services)


def test_another_system_error_is_not_reported_as_a_full_disk(run_job: RunJob) -> None:
    ended = run_job(lambda _: Path("/dev/full/x").write_bytes(b"x"))
    assert ended.error is not None
    assert ended.error["type"] == "internal-error"


def test_a_checkpoint_that_does_not_fit_on_the_disk_does_not_fail_the_job(
    services: Services, job_id: str, run_job: RunJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(services.files, f"checkpoints/{job_id}", monkeypatch)
    assert run_job(lambda context: context.checkpoint.store(b"x")).state == State.SUCCEEDED
    assert list_keys(services.files, f"checkpoints/{job_id}") == []


def test_a_job_that_saves_an_artifact_twice_fails(run_job: RunJob) -> None:
    def save_twice(context: JobContext[Any]) -> None:
        for _ in range(2):
            context.save("a.txt", "text/plain", b"a")

    ended = run_job(save_twice)
    assert ended.error is not None
    assert (ended.state, ended.error["type"]) == (State.FAILED, "internal-error")


def test_files_are_durable_before_they_are_recorded(
    services: Services, run_job: RunJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_syncs(monkeypatch)
    durable: list[Path] = []

    def note(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT INTO artifacts"):
            durable[:] = synced

    event.listen(services.database.engine, "before_cursor_execute", note)
    ended = run_job(lambda context: context.save("a.txt", "text/plain", b"a"))
    assert ended.state == State.SUCCEEDED
    file = path_on_disk(services.files, f"jobs/{ended.id}/1/a.txt")
    assert {file, file.parent, file.parent.parent} <= set(durable)


def test_a_short_job_syncs_each_file_and_folder_once(
    services: Services, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_syncs(monkeypatch)

    def save_two(context: JobContext[Any]) -> None:
        for name in ("a.txt", "b.txt"):
            context.save(name, "text/plain", b"x")

    # This interval is so long that no heartbeat is sent during the job, even on a slow machine.
    unhurried = services.settings.model_copy(update={"heartbeat_s": 60.0})
    run_with(Services(unhurried, services.database, services.files, services.broker), save_two, monkeypatch)
    assert list_recorded(services, job_id) == ["a.txt", "b.txt"]
    folder = path_on_disk(services.files, f"jobs/{job_id}/1")
    folders = [folder, folder.parent, folder.parent.parent, path_on_disk(services.files, "")]
    assert sorted(synced) == sorted([folder / "a.txt", folder / "b.txt", *folders])


def test_a_file_is_recorded_while_its_job_is_running(services: Services, job_id: str, run_job: RunJob) -> None:
    def save_and_wait(context: JobContext[Any]) -> None:
        context.save("early.txt", "text/plain", b"early")
        wait_until(lambda: list_recorded(services, job_id) == ["early.txt"], "the file to be recorded")
        assert read_job(services, job_id).state == State.RUNNING
        context.save("late.txt", "text/plain", b"late")

    ended = run_job(save_and_wait)
    assert ended.state == State.SUCCEEDED
    assert list_recorded(services, job_id) == ["early.txt", "late.txt"]
    with services.database.reading() as session:
        events = queries.read_events(session, job_id, 0).events
    assert [each.data["name"] for each in events if each.kind == EventKind.ARTIFACT] == ["early.txt", "late.txt"]


def test_a_failed_job_has_no_artifacts(services: Services, job_id: str, run_job: RunJob) -> None:
    def save_and_fail(context: JobContext[Any]) -> None:
        context.save("a.txt", "text/plain", b"a")
        wait_until(lambda: list_recorded(services, job_id) == ["a.txt"], "the file to be recorded")
        context.save("b.txt", "text/plain", b"b")
        raise ZeroDivisionError

    assert run_job(save_and_fail).state == State.FAILED
    assert list_recorded(services, job_id) == []


def test_a_slow_disk_does_not_delay_heartbeats(
    services: Services, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = BlockedStore(path_on_disk(services.files, ""))
    slow = Services(services.settings, services.database, files, services.broker)

    def save_and_wait(context: JobContext[Any]) -> None:
        context.save("a.txt", "text/plain", b"a")
        for _ in range(3):
            wait_for_heartbeat(services, job_id)
        assert list_recorded(services, job_id) == []
        files.released.set()
        wait_until(lambda: list_recorded(services, job_id) == ["a.txt"], "the file to be recorded")

    run_with(slow, save_and_wait, monkeypatch)
    assert read_job(services, job_id).state == State.SUCCEEDED
