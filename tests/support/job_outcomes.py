"""Jobs that run and end without a worker, for what shows them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import insert

from shared.database import transitions
from shared.database.connection import now
from shared.database.tables import Worker
from shared.files.keys import artifact_key
from shared.jobs import DeviceClass, Kind, Lease, Outcome, State, StoredFile, WorkerIdentity
from shared.services import Services

Files = Mapping[str, tuple[str, bytes]]
"""Name to media type and content."""

MUSIC = {
    "sampling_rate": 32_000,
    "frame_rate": 50,
    "tokens_per_s": 12.34,
    "realtime_factor": 0.25,
    "engine": "mindspore",
    "precision": "float32",
}
"""A result, but for its samples."""


def start_job(services: Services, job_id: str | None = None, *, worker: str = "box:1") -> Lease:
    """Claim a job as a worker would: the next one, where none is named."""
    claimant = WorkerIdentity(dict.fromkeys(Kind, "mindspore"), DeviceClass.CPU, worker, lease_s=60)
    job = transitions.claim(services.database, claimant, job_id)
    assert job is not None
    return Lease(job.id, job.attempt)


def end(services: Services, lease: Lease, ending: Outcome, files: Files) -> None:
    """End an attempt that leaves files."""
    stored = []
    for name, (media_type, content) in files.items():
        written = services.files.put(artifact_key(lease.job_id, lease.attempt, name), [content])
        stored.append(StoredFile(name, written.key, media_type, written.bytes, written.sha256))
    assert transitions.finish(services.database, lease, replace(ending, files=tuple(stored)))


def succeed(services: Services, job_id: str, result: Mapping[str, Any], files: Files) -> None:
    """Run a job to its end."""
    end(services, start_job(services, job_id), Outcome(State.SUCCEEDED, result), files)


def register_worker(services: Services, name: str, device: DeviceClass, **columns: Any) -> None:
    """Register a worker with a current heartbeat, for knn unless ``columns`` say otherwise."""
    with services.database.writing() as session:
        row = {"device": device, "device_index": 0, "kinds": ["knn"], "engines": {}, "beat_interval_s": 60} | columns
        session.execute(insert(Worker).values(name=name, started_at=now(), beat_at=now(), **row))


def make_sample(number: int, **facts: Any) -> dict[str, Any]:
    """Make the facts of a sample, as they stand in a result."""
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
