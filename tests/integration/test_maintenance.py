"""The sweeper's slow half: forgetting what is old, and only that."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from shared.database import transitions
from shared.database.connection import now
from shared.database.tables import Artifact, Job, Upload, Worker
from shared.files.keys import CHECKPOINTS, artifact_key, checkpoint_key
from shared.jobs import ANONYMOUS, CANCELLED, TIMED_OUT, DeviceClass, Kind, Outcome, RetryDelay, State
from shared.maintenance import __main__, cleanup
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.support.disks import list_keys, path_on_disk
from tests.support.job_outcomes import start_job, succeed
from tests.support.waiting import wait_until
from web.uploads import store
from worker.checkpoint import StoredCheckpoint
from worker.registration import WorkerRegistration

MONTHS_S = 60 * 86_400.0


def make_old(path: Path) -> None:
    then = time.time() - MONTHS_S
    os.utime(path, (then, then))


def finish_one(services: Services, name: str) -> str:
    job_id = submit.submit_job(services, {"kind": "knn", "device": "cpu"})[0].id
    succeed(services, job_id, {}, {name: ("text/plain", b"content")})
    return job_id


def test_jobs_that_ended_long_ago_are_forgotten_with_their_files(services: Services) -> None:
    old, young = finish_one(services, "old.txt"), finish_one(services, "young.txt")
    with services.database.writing() as session:
        session.execute(update(Job).where(Job.id == old).values(finished_at=now(-MONTHS_S)))
    cleanup.clean_up(services)
    with services.database.reading() as session:
        assert session.scalars(select(Job.id)).all() == [young]
        assert session.scalars(select(Artifact.name)).all() == ["young.txt"]
    assert list_keys(services.files, "jobs") == [artifact_key(young, 1, "young.txt")]


def test_files_without_a_row_go_and_the_others_stay(services: Services) -> None:
    job_id = finish_one(services, "kept.txt")
    kept = path_on_disk(services.files, f"jobs/{job_id}/1/kept.txt")
    lost_attempt = path_on_disk(services.files, services.files.put(f"jobs/{job_id}/0/lost.txt", [b"x"]).key)
    half = kept.with_name(".part-1")
    half.write_bytes(b"half")
    fresh = path_on_disk(services.files, services.files.put(f"jobs/{job_id}/2/fresh.txt", [b"x"]).key)
    for path in (kept, lost_attempt, half):
        make_old(path)
    cleanup.clean_up(services)
    assert [path.exists() for path in (kept, lost_attempt, half, fresh)] == [True, False, False, True]


@pytest.mark.parametrize("ending", [Outcome(State.SUCCEEDED, {}), TIMED_OUT, CANCELLED])
def test_a_checkpoint_lives_as_long_as_its_job_may_run(services: Services, ending: Outcome) -> None:
    submit.submit_job(services, {"kind": "knn", "device": "cpu"})
    lease = start_job(services)
    StoredCheckpoint(services.files, lease).store(b"half")
    checkpoint = path_on_disk(services.files, checkpoint_key(lease.job_id, 1))
    make_old(checkpoint)

    def sweep() -> None:
        __main__.sweep(services)
        cleanup.clean_up(services)

    sweep()
    assert checkpoint.exists()
    transitions.recover_lost(services.database, lease, RetryDelay(0.0, 0.0))
    sweep()
    assert checkpoint.exists()
    lease = start_job(services)
    assert (lease.attempt, StoredCheckpoint(services.files, lease).load()) == (2, b"half")
    transitions.finish(services.database, lease, ending)
    __main__.sweep(services)
    assert list_keys(services.files, CHECKPOINTS) == []


def test_the_checkpoints_of_other_ends_go_too(services: Services) -> None:
    jobs = [submit.submit_job(services, {"kind": "knn", "device": "cpu"})[0].id for _ in range(4)]
    leases = {lease.job_id: lease for lease in (start_job(services) for _ in jobs)}
    cancelled, late, deleted, running = jobs
    for lease in leases.values():
        StoredCheckpoint(services.files, lease).store(b"half")
    for job_id in (cancelled, late):
        transitions.recover_lost(services.database, leases[job_id], RetryDelay(60.0, 60.0))
    transitions.cancel(services.database, cancelled)
    with services.database.writing() as session:
        session.execute(update(Job).where(Job.id == late).values(deadline_at=now(-1)))
    transitions.finish(services.database, leases[deleted], CANCELLED)
    transitions.delete_job(services.database, deleted)
    __main__.sweep(services)
    assert list_keys(services.files, CHECKPOINTS) == [checkpoint_key(running, 1)]


def test_an_upload_lives_as_long_as_a_job_may_need_it(services: Services, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("k,a\nx,1\ny,2\n")
    uploads = []
    for _ in range(2):
        with table.open("rb") as file:
            uploads.append(store(services, file, "table.csv", ANONYMOUS))
    wanted, unwanted = uploads
    params = {"dataset": {"upload": wanted.id, "label": "k"}, "k": 1, "evaluation": {"method": "loo"}}
    submit.submit_job(services, {"kind": "knn", "device": "cpu", "params": params})
    with services.database.writing() as session:
        session.execute(update(Upload).values(created_at=now(-MONTHS_S)))
    for upload in uploads:
        make_old(path_on_disk(services.files, upload.key))
    cleanup.clean_up(services)
    with services.database.reading() as session:
        assert session.scalars(select(Upload.id)).all() == [wanted.id]
    assert path_on_disk(services.files, wanted.key).exists()
    assert not path_on_disk(services.files, unwanted.key).exists()


@pytest.fixture
def presence(settings: Settings, open_services: Callable[[Settings], Services]) -> WorkerRegistration:
    return WorkerRegistration(
        open_services(settings).database,  # its own, since it closes it between beats
        name="w1",
        device=DeviceClass.CPU,
        device_index=0,
        kinds=[Kind.KNN],
        engines={Kind.KNN: "mindspore"},
        beat_interval_s=60.0,
        wait_until_ready=lambda _: True,
    )


def test_a_worker_that_is_silent_for_long_is_forgotten(services: Services, presence: WorkerRegistration) -> None:
    def list_workers() -> list[str]:
        with services.database.reading() as session:
            return list(session.scalars(select(Worker.name)))

    with presence:
        wait_until(list_workers, "the worker")
        __main__.sweep(services)
        assert list_workers() == ["w1"]
        with services.database.writing() as session:
            session.execute(update(Worker).values(beat_at=now(-__main__.FORGET_WORKERS_AFTER_S - 1)))
        __main__.sweep(services)
        assert list_workers() == []
    assert list_workers() == []
