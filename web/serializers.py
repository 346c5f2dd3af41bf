"""Rows as the API shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, cast
from urllib.parse import quote

from flask import url_for
from sqlalchemy.orm import Session

from shared.database import queries
from shared.database.queries import JobFilter
from shared.database.tables import Artifact, Job, JobEvent, Upload
from shared.jobs import ENDED, DeviceClass, Kind, State
from shared.schemas import responses
from shared.texts import render_error
from shared.timestamps import format_timestamp


@dataclass(frozen=True)
class JobView:
    """A job at one moment.

    Parameters
    ----------
    document
        As the API shows it.
    etag
        Changes whenever something of the job does; the estimate of the time left alone is no change.
    """

    document: responses.Job
    etag: str

    @property
    def id(self) -> str:
        """The job's identifier."""
        return self.document["id"]

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.document["state"] in ENDED


def view_job(session: Session, job_id: str) -> JobView:
    """Read a job.

    Raises
    ------
    NotFoundError
        There is none.
    """
    job = queries.get_job(session, job_id)
    # What a job has made comes with its end, and a place in the queue is lost with its start.
    document = serialize_job(job, queries.list_artifacts_of(session, job_id) if job.state in ENDED else ())
    if job.state == State.QUEUED:
        document["queue_position"] = queries.count_jobs_ahead(session, job)
    lasting = document | {"eta_s": None}
    return JobView(document, sha256(repr(lasting).encode()).hexdigest()[:32])


def serialize_page(
    session: Session, wanted: JobFilter, limit: int, cursor: str | None = None
) -> tuple[list[responses.Job], str | None]:
    """Write a page of the list, newest first.

    Returns
    -------
    documents, next_cursor
        At most ``limit`` jobs, and what to ask for the page after them; ``None`` after the last.
    """
    found = queries.list_jobs(session, wanted, limit + 1, cursor)
    jobs = found[:limit]
    artifacts = queries.list_artifacts(session, [job.id for job in jobs])
    documents = [serialize_job(job, artifacts[job.id]) for job in jobs]
    positions = queries.find_queue_positions(session, [job.id for job in jobs if job.state == State.QUEUED])
    for document in documents:
        document["queue_position"] = positions.get(document["id"])
    return documents, jobs[-1].id if len(found) > limit else None


def serialize_job(job: Job, artifacts: Sequence[Artifact]) -> responses.Job:
    """Write one job; its place in the queue is the caller's to add, since only a database knows it."""
    # Flask takes as long to write an address as it takes to read a job, so one has to do for all files.
    files = f"{url_for('api.get_job', job_id=job.id)}/artifacts" if artifacts else ""
    return {
        "id": job.id,
        "kind": Kind(job.kind),
        "state": State(job.state),
        "device": job.device or job.wanted_device,
        "engine": job.engine,
        "params": job.params,
        "labels": job.labels,
        "priority": job.priority,
        "progress": {
            "done": job.progress_done,
            "total": job.progress_total,
            "unit": job.progress_unit,
            "stage": job.progress_stage,
        },
        "queue_position": None,
        "eta_s": _estimate_s(job),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "cancel_requested": job.cancel_requested,
        "worker": job.worker,
        "created_at": format_timestamp(job.created_at),
        "started_at": _format_optional_timestamp(job.started_at),
        "finished_at": _format_optional_timestamp(job.finished_at),
        "result": job.result,
        "error": _serialize_error(job.error),
        "retry_of": job.retry_of,
        "webhook": _serialize_webhook(job.webhook),
        "artifacts": [
            {
                "name": artifact.name,
                "media_type": artifact.media_type,
                "bytes": artifact.bytes,
                "sha256": artifact.sha256,
                "url": f"{files}/{quote(artifact.name)}",
            }
            for artifact in artifacts
        ],
    }


def serialize_event(event: JobEvent) -> dict[str, Any]:
    """Write what an event tells, and when it happened."""
    shown = event.data | {"at": format_timestamp(event.at)}
    if shown.get("error") is not None:
        shown["error"] = render_error(shown["error"])
    return shown


def serialize_upload(upload: Upload) -> responses.Upload:
    """Write an upload."""
    return {
        "id": upload.id,
        "bytes": upload.bytes,
        "sha256": upload.sha256,
        "media_type": upload.media_type,
        "filename": upload.filename,
    }


def serialize_devices(session: Session) -> list[responses.Device]:
    """Write the classes of device with their workers and their load."""
    workers = queries.list_live_workers(session)
    load = queries.count_by_device(session)
    return [
        {
            "device": device,
            "workers_alive": sum(worker.device == device for worker in workers),
            "engines": {
                kind: engine for worker in workers if worker.device == device for kind, engine in worker.engines.items()
            },
            "queued": load.get((device, State.QUEUED), 0),
            "running": load.get((device, State.RUNNING), 0),
        }
        for device in DeviceClass
    ]


def _estimate_s(job: Job) -> float | None:
    """Estimate the time to the end of the stage, at the pace within it.

    Other stages have other paces and units, and what an earlier attempt did before its checkpoint took no time of this
    one, so neither counts.
    """
    if job.state != State.RUNNING or job.stage_started_at is None or job.stage_started_done is None:
        return None
    done = job.progress_done - job.stage_started_done
    remaining = job.progress_total - job.progress_done
    if done <= 0 or remaining < 0:
        return None
    elapsed_s = (datetime.now(UTC) - job.stage_started_at).total_seconds()
    return round(max(0.0, elapsed_s * remaining / done), 1)


def _serialize_error(error: Mapping[str, Any] | None) -> responses.JobError | None:
    return None if error is None else cast("responses.JobError", render_error(error))


def _serialize_webhook(webhook: Mapping[str, Any] | None) -> responses.Webhook | None:
    return None if webhook is None else {"url": webhook["url"], "events": webhook["events"]}


def _format_optional_timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else format_timestamp(moment)
