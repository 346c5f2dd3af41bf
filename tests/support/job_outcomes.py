"""Stores uploads, registers workers, and starts and ends jobs without a worker, for tests that read the results."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import insert, update

from shared.database import queries, transitions
from shared.database.connection import now
from shared.database.tables import Job, Upload, Worker
from shared.files.keys import artifact_key, upload_key
from shared.ids import make_id
from shared.inspection.runner import InspectionRunner
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.jobs import ANONYMOUS, DeviceClass, Kind, Lease, Outcome, State, StoredFile, WorkerIdentity
from shared.services import Services
from tests.support.waiting import DEADLINE_S, wait_until

Files = Mapping[str, tuple[str, bytes]]
"""For each file name, the media type and the content."""

MUSIC = {
    "sampling_rate": 32_000,
    "frame_rate": 50,
    "tokens_per_s": 12.34,
    "realtime_factor": 0.25,
    "engine": "mindspore",
    "precision": "float32",
}
"""The result of a musicgen job, without the field ``samples``."""


def start_job(services: Services, job_id: str | None = None, *, worker: str = "box:1") -> Lease:
    """Claim a job as a worker would: the job with this id, or the best queued job if no id is given."""
    identity = WorkerIdentity(dict.fromkeys(Kind, "mindspore"), DeviceClass.CPU, worker, lease_s=DEADLINE_S)
    job = transitions.claim(services.database, identity, job_id)
    assert job is not None
    return Lease(job.id, job.attempt)


def store_file(services: Services, lease: Lease, name: str, media_type: str, content: bytes) -> StoredFile:
    """Store an artifact of an attempt, without recording it."""
    stored = services.files.put(artifact_key(lease.job_id, lease.attempt, name), [content])
    return StoredFile(name, stored.key, media_type, stored.bytes, stored.sha256)


def end(services: Services, lease: Lease, outcome: Outcome, files: Files) -> None:
    """Store the files of an attempt, and end the attempt with an outcome."""
    stored = tuple(store_file(services, lease, name, *file) for name, file in files.items())
    assert transitions.finish(services.database, lease, replace(outcome, files=stored))


def succeed(services: Services, job_id: str, result: Mapping[str, Any], files: Files) -> None:
    """Claim a job, and end it as succeeded."""
    end(services, start_job(services, job_id), Outcome(State.SUCCEEDED, result), files)


def expire_lease(services: Services, job_id: str) -> None:
    """Let the lease of the running attempt expire, and wait until a sweeper has recovered the job."""
    with services.database.reading() as session:
        attempt = queries.get_job(session, job_id).attempt
    running = (Job.id == job_id, Job.state == State.RUNNING, Job.attempt == attempt)

    def look() -> bool:
        # The lease is ended at every call, since a heartbeat that was already sent may extend the lease once more.
        with services.database.writing() as session:
            session.execute(update(Job).where(*running).values(lease_until=now(-1.0)))
        with services.database.reading() as session:
            return session.query(Job.id).where(*running).one_or_none() is None

    wait_until(look, f"attempt {attempt} of job {job_id} to be recovered")


def store_upload(services: Services, content: bytes, *, owner: str = ANONYMOUS) -> Upload:
    """Store a CSV file as an upload, and inspect it."""
    upload_id = make_id()
    stored = services.files.put(upload_key(upload_id), [content])
    row = insert(Upload).values(
        id=upload_id,
        owner=owner,
        key=stored.key,
        media_type="text/csv",
        bytes=stored.bytes,
        sha256=stored.sha256,
        created_at=now(),
        kind=UploadKind.TABLE,
        inspection_state=InspectionState.PENDING,
    )
    with services.database.writing() as session:
        upload = session.scalars(row.returning(Upload)).one()
    # The owner has no other upload that waits.
    assert InspectionRunner(services, prepares=False).inspect_next()
    return upload


def store_clip(services: Services, length_s: float, *, owner: str = ANONYMOUS, **columns: Any) -> str:
    """Store an upload in which an inspection found sound of this length, and return its id.

    The content of the file is not sound, so that only what was found can decide anything.
    """
    upload_id = make_id()
    stored = services.files.put(upload_key(upload_id), [b"\xff"])
    facts = {"duration_s": length_s, "rate": 44_100, "channels": 2, "format": "mov", "codec": "aac", "warnings": []}
    row = {
        "id": upload_id,
        "owner": owner,
        "key": stored.key,
        "filename": "clip.m4a",
        "media_type": "audio/mp4",
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "created_at": now(),
        "kind": UploadKind.AUDIO,
        "inspection_state": InspectionState.READY,
        "facts": facts,
    }
    with services.database.writing() as session:
        session.execute(insert(Upload).values(**row | columns))
    return upload_id


def register_worker(services: Services, name: str, device: DeviceClass, **columns: Any) -> None:
    """Register a live worker. Its kind is knn unless ``columns`` contains ``kinds``."""
    with services.database.writing() as session:
        row = {"device": device, "device_index": 0, "kinds": ["knn"], "engines": {}, "beat_interval_s": 60} | columns
        session.execute(insert(Worker).values(name=name, started_at=now(), beat_at=now(), **row))


def make_sample(number: int, **facts: Any) -> dict[str, Any]:
    """Return the entry of a sample in the result of a musicgen job; ``facts`` override the default values."""
    return {
        "prompt": None,
        "seed": 41 + number,
        "duration_s": 1.0,
        "audio": f"audio-{number}.ogg",
        "codes": f"codes-{number}.npy",
        "peak_dbfs": -1.25,
        "lufs": -14.0,
        "warnings": [],
    } | facts
