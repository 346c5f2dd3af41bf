"""What becomes of a job's files: sure before the job ends, and an error where the disk has no room."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.jobs import DeviceClass, Kind, State
from shared.services import Services
from shared.submission import submit
from tests.support.disks import fill_disk, note_syncs
from worker import registry
from worker.devices import Device
from worker.engines.interface import JobContext
from worker.runner import Runner
from worker.watchdog import ChildStatus


class FakeEngine:
    name = "fake"

    def __init__(self, work: Callable[[JobContext[Any]], object]) -> None:
        self._work = work

    def prepare(self) -> None:
        raise NotImplementedError

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        self._work(context)
        return {}


@pytest.fixture
def job_id(services: Services) -> str:
    return submit.submit_job(services, {"kind": "knn", "device": "cpu"})[0].id


@pytest.fixture
def run_job(
    services: Services, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[JobContext[Any]], object]], Job]:
    def run(work: Callable[[JobContext[Any]], object]) -> Job:
        monkeypatch.setattr(registry, "make_engine", lambda *_: FakeEngine(work))
        Runner(services, Device(DeviceClass.CPU, 0), [Kind.KNN], "w1", ChildStatus()).run_queued_jobs()
        with services.database.reading() as session:
            return queries.get_job(session, job_id)

    return run


def check_disk_full(job: Job, services: Services) -> None:
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert (job.error["type"], job.error["title"]) == ("disk-full", "The disk is full")
    assert services.settings.storage in job.error["detail"]
    assert "make room" in job.error["detail"]


def test_an_artifact_for_which_there_is_no_room_fails_the_job(
    services: Services, job_id: str, run_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(services.storage, f"jobs/{job_id}/1", monkeypatch)
    ended = run_job(lambda context: context.save("out.wav", "audio/wav", b"x" * 2**20))
    check_disk_full(ended, services)
    assert services.storage.list_names(f"jobs/{job_id}/1") == []


def test_an_engines_own_file_for_which_there_is_no_room_fails_the_job(
    services: Services, run_job: Callable[..., Job]
) -> None:
    check_disk_full(run_job(lambda _: Path("/dev/full").write_bytes(b"x")), services)


def test_another_error_of_the_system_is_not_called_a_full_disk(run_job: Callable[..., Job]) -> None:
    ended = run_job(lambda _: Path("/dev/full/x").write_bytes(b"x"))
    assert ended.error is not None
    assert ended.error["type"] == "internal-error"


def test_a_checkpoint_for_which_there_is_no_room_fails_nothing(
    services: Services, job_id: str, run_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(services.storage, f"checkpoints/{job_id}", monkeypatch)
    assert run_job(lambda context: context.checkpoint.store(b"x")).state == State.SUCCEEDED
    assert services.storage.list_names(f"checkpoints/{job_id}") == []


def test_files_outlast_a_crash_before_the_job_is_said_to_have_them(
    services: Services, run_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = note_syncs(monkeypatch)
    known: list[Path] = []
    finish = transitions.finish

    def note(*arguments: Any) -> bool:
        known[:] = synced
        return finish(*arguments)

    monkeypatch.setattr(transitions, "finish", note)
    ended = run_job(lambda context: context.save("a.txt", "text/plain", b"a"))
    assert ended.state == State.SUCCEEDED
    file = services.storage.locate(f"jobs/{ended.id}/1/a.txt")
    assert {file, file.parent, file.parent.parent} <= set(known)
