"""The sweeper deletes what is no longer needed, and keeps everything else.

It deletes old jobs and uploads, old files without a row in the database, the checkpoints of ended jobs, and the
registrations of workers that no longer send heartbeats.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select, update

from shared.database import queries, transitions
from shared.database.connection import now
from shared.database.tables import Artifact, Job, Upload, Worker
from shared.files.keys import CHECKPOINTS, artifact_key, checkpoint_key
from shared.ids import make_id
from shared.jobs import CANCELLED, TIMED_OUT, DeviceClass, Kind, Outcome, State
from shared.maintenance import cleanup
from shared.maintenance.__main__ import sweep
from shared.maintenance.rescue import WORKER_RETENTION_S
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.settings import Settings
from shared.submission.delete import delete_job
from shared.submission.submit import submit_job
from tests.support.disks import list_keys, path_on_disk
from tests.support.job_outcomes import start_job, store_file, store_upload, succeed
from tests.support.waiting import wait_until
from worker.checkpoint import StoredCheckpoint
from worker.devices import Device
from worker.engines.knn.backends import MINDSPORE
from worker.registration import WorkerRegistration
from worker.watchdog import ChildStatus

MONTHS_S: Final = 60 * 86_400.0
TABLE: Final = b"k,a\nx,1\ny,2\n"


def make_old(path: Path) -> None:
    then = time.time() - MONTHS_S
    os.utime(path, (then, then))


def submit_one(services: Services) -> str:
    return submit_job(services, {"kind": "knn", "device": "cpu"})[0].id


def finish_one(services: Services, name: str) -> str:
    job_id = submit_one(services)
    succeed(services, job_id, {}, {name: ("text/plain", b"content")})
    return job_id


def test_jobs_that_ended_long_ago_are_deleted_with_their_files(services: Services) -> None:
    old, young = finish_one(services, "old.txt"), finish_one(services, "young.txt")
    with services.database.writing() as session:
        session.execute(update(Job).where(Job.id == old).values(finished_at=now(-MONTHS_S)))
    cleanup.clean_up(services)
    with services.database.reading() as session:
        assert session.scalars(select(Job.id)).all() == [young]
        assert session.scalars(select(Artifact.name)).all() == ["young.txt"]
    assert list_keys(services.files, "jobs") == [artifact_key(young, 1, "young.txt")]


def test_job_is_deleted_with_its_files(services: Services) -> None:
    deleted, other = finish_one(services, "deleted.txt"), finish_one(services, "other.txt")
    delete_job(services, deleted)
    with services.database.reading() as session:
        assert session.scalars(select(Job.id)).all() == [other]
    assert list_keys(services.files, "jobs") == [artifact_key(other, 1, "other.txt")]


def test_old_files_without_a_row_in_the_database_are_removed(services: Services) -> None:
    job_id = finish_one(services, "recorded.txt")
    recorded = path_on_disk(services.files, artifact_key(job_id, 1, "recorded.txt"))
    lost_attempt = path_on_disk(services.files, services.files.put(artifact_key(job_id, 0, "lost.txt"), [b"x"]).key)
    unfinished = recorded.with_name(".part-1")
    unfinished.write_bytes(b"half")
    upload = path_on_disk(services.files, services.files.put(f"uploads/{make_id()}", [b"x"]).key)
    young = path_on_disk(services.files, services.files.put(artifact_key(job_id, 2, "young.txt"), [b"x"]).key)
    for path in (recorded, lost_attempt, unfinished, upload):
        make_old(path)
    cleanup.clean_up(services)
    existing = [path for path in (recorded, lost_attempt, unfinished, upload, young) if path.exists()]
    assert existing == [recorded, young]


def test_old_files_of_a_running_job_are_kept(services: Services) -> None:
    submit_one(services)
    lease = start_job(services)
    recorded = store_file(services, lease, "recorded.txt", "text/plain", b"x")
    unrecorded = store_file(services, lease, "unrecorded.txt", "text/plain", b"x")
    transitions.heartbeat(services.database, lease, None, 60.0, [recorded])
    for file in (recorded, unrecorded):
        make_old(path_on_disk(services.files, file.key))
    cleanup.clean_up(services)
    assert list_keys(services.files, "jobs") == [recorded.key, unrecorded.key]


def test_recovered_job_keeps_its_recorded_files_until_its_next_attempt_ends(services: Services) -> None:
    submit_one(services)
    lease = start_job(services)
    recorded = store_file(services, lease, "recorded.txt", "text/plain", b"x")
    unrecorded = store_file(services, lease, "unrecorded.txt", "text/plain", b"x")
    transitions.heartbeat(services.database, lease, None, 60.0, [recorded])
    transitions.recover_lost(services.database, lease, RetryDelay(0.0, 0.0))
    for file in (recorded, unrecorded):
        make_old(path_on_disk(services.files, file.key))
    cleanup.clean_up(services)
    assert list_keys(services.files, "jobs") == [recorded.key]
    transitions.finish(services.database, start_job(services), Outcome(State.SUCCEEDED, {}))
    cleanup.clean_up(services)
    assert list_keys(services.files, "jobs") == []


@pytest.mark.parametrize("outcome", [Outcome(State.SUCCEEDED, {}), TIMED_OUT, CANCELLED])
def test_checkpoint_is_kept_until_its_job_has_ended(services: Services, outcome: Outcome) -> None:
    submit_one(services)
    lease = start_job(services)
    StoredCheckpoint(services.files, lease).store(b"half")
    checkpoint = path_on_disk(services.files, checkpoint_key(lease.job_id, 1))
    make_old(checkpoint)

    def sweep_and_clean_up() -> None:
        sweep(services)
        cleanup.clean_up(services)

    sweep_and_clean_up()
    assert checkpoint.exists()
    transitions.recover_lost(services.database, lease, RetryDelay(0.0, 0.0))
    sweep_and_clean_up()
    assert checkpoint.exists()
    lease = start_job(services)
    assert (lease.attempt, StoredCheckpoint(services.files, lease).load()) == (2, b"half")
    transitions.finish(services.database, lease, outcome)
    sweep(services)
    assert list_keys(services.files, CHECKPOINTS) == []


def test_checkpoints_are_removed_if_the_job_ends_in_the_queue_or_is_deleted(services: Services) -> None:
    jobs = [submit_one(services) for _ in range(4)]
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
    sweep(services)
    assert list_keys(services.files, CHECKPOINTS) == [checkpoint_key(running, 1)]


def test_old_upload_that_a_job_still_needs_is_kept(services: Services) -> None:
    needed, unneeded = store_upload(services, TABLE), store_upload(services, TABLE)
    params = {"dataset": {"upload": needed.id, "label": "k"}, "k": 1, "evaluation": {"method": "loo"}}
    submit_job(services, {"kind": "knn", "device": "cpu", "params": params})
    make_uploads_old(services, needed, unneeded)
    cleanup.clean_up(services)
    with services.database.reading() as session:
        assert session.scalars(select(Upload.id)).all() == [needed.id]
    assert list_keys(services.files, "uploads") == [needed.key]


def make_uploads_old(services: Services, *uploads: Upload) -> None:
    with services.database.writing() as session:
        session.execute(update(Upload).values(created_at=now(-MONTHS_S)))
    for upload in uploads:
        make_old(path_on_disk(services.files, upload.key))


def test_job_of_an_unknown_kind_stays_queued_and_its_uploads_are_kept(services: Services) -> None:
    upload = store_upload(services, TABLE)
    job = Job(
        id=make_id(),
        kind="from-a-later-version",
        params={"parts": [{"upload": upload.id}]},
        priority=5,
        wanted_device="auto",
        device="cpu",
        max_attempts=3,
        request_sha256="0" * 64,
    )
    transitions.submit(services.database, job, 60.0)
    with services.database.writing() as session:
        session.execute(update(Job).values(available_at=now(-60)))
    make_uploads_old(services, upload)
    sweep(services)
    cleanup.clean_up(services)
    with services.database.reading() as session:
        assert queries.get_job(session, job.id).state == State.QUEUED
    assert list_keys(services.files, "uploads") == [upload.key]


@pytest.fixture
def registration(settings: Settings, open_services: Callable[[Settings], Services]) -> WorkerRegistration:
    status = ChildStatus()
    status.mark_ready()
    return WorkerRegistration(
        open_services(settings).database,  # not shared: the registration closes it after each heartbeat
        name="w1",
        device=Device(DeviceClass.CPU, 0),
        backends={Kind.KNN: MINDSPORE},
        heartbeat_interval_s=60.0,
        stalled_worker_s=60.0,
        status=status,
    )


def test_registration_of_a_worker_without_heartbeats_is_deleted(
    services: Services, registration: WorkerRegistration
) -> None:
    def list_workers() -> list[str]:
        with services.database.reading() as session:
            return list(session.scalars(select(Worker.name)))

    with registration:
        wait_until(list_workers, "the worker")
        sweep(services)
        assert list_workers() == ["w1"]
        with services.database.writing() as session:
            session.execute(update(Worker).values(beat_at=now(-WORKER_RETENTION_S - 1)))
        sweep(services)
        assert list_workers() == []
    assert list_workers() == []
