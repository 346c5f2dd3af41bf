"""Converts rows of the database to documents of the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote

from flask import url_for
from sqlalchemy.orm import Session

from shared.database import queries, worker_queries
from shared.database.queries import JobFilter
from shared.database.tables import Artifact, Job, JobEvent, Upload, Worker
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.jobs import ENDED, DeviceClass, Kind, State
from shared.kinds import KINDS
from shared.schemas import responses
from shared.texts import render_error, render_stored
from shared.timestamps import format_timestamp
from web.etag import make_etag
from web.inspected_uploads import present_facts


@dataclass(frozen=True)
class JobView:
    """A job at one moment.

    Parameters
    ----------
    document
        The job as the API shows it.
    etag
        A hash that changes whenever the job changes. A new estimate of the remaining time does not change the hash.
    """

    document: responses.Job
    etag: str

    @property
    def id(self) -> str:
        """The job's id."""
        return self.document["id"]

    @property
    def ended(self) -> bool:
        """Whether the job has ended. The document of an ended job does not change any more."""
        return self.document["state"] in ENDED


def view_job(session: Session, job_id: str) -> JobView:
    """Read a job.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    job = queries.get_job(session, job_id)
    # Only a job that has succeeded has published artifacts, and only a queued job has a queue position.
    document = serialize_job(job, queries.list_artifacts_of(session, job_id) if job.state == State.SUCCEEDED else ())
    if job.state == State.QUEUED:
        document["queue_position"] = queries.count_jobs_ahead(session, job)
    return JobView(document, make_etag(document))


def serialize_page(
    session: Session, wanted: JobFilter, limit: int, cursor: str | None = None
) -> tuple[list[responses.Job], str | None]:
    """Build a page of the list of jobs, newest first.

    Returns
    -------
    documents, next_cursor
        The documents of at most ``limit`` jobs, and the cursor of the next page. On the last page the cursor is
        ``None``.
    """
    found = queries.list_jobs(session, wanted, limit + 1, cursor)
    jobs = found[:limit]
    artifacts = queries.list_artifacts(session, [job.id for job in jobs if job.state == State.SUCCEEDED])
    documents = [serialize_job(job, artifacts.get(job.id, ())) for job in jobs]
    positions = queries.find_queue_positions(session, [job.id for job in jobs if job.state == State.QUEUED])
    for document in documents:
        document["queue_position"] = positions.get(document["id"])
    return documents, jobs[-1].id if len(found) > limit else None


def serialize_job(job: Job, artifacts: Sequence[Artifact]) -> responses.Job:
    """Build the document of a job. The caller adds the queue position, because that needs another database query."""
    # Flask takes as long to build one address as to read a job. So Flask builds only the common start of the addresses
    # of the job's files.
    files = f"{url_for('api.get_job', job_id=job.id)}/artifacts" if artifacts else ""
    return {
        "id": job.id,
        "kind": cast("Kind", job.kind),  # a kind that this version does not know is shown as it is
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
        "eta_s": _estimate_remaining_s(job),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "cancel_requested": job.cancel_requested,
        "worker": job.worker,
        "created_at": format_timestamp(job.created_at),
        "started_at": _format_optional_timestamp(job.started_at),
        "finished_at": _format_optional_timestamp(job.finished_at),
        "result": _present_result(job),
        "error": _serialize_error(job.error),
        "retry_of": job.retry_of,
        "webhook": _serialize_webhook(job.webhook),
        "artifacts": [
            {
                "name": artifact.name,
                "filename": name_download(job, artifact.name),
                "media_type": artifact.media_type,
                "bytes": artifact.bytes,
                "sha256": artifact.sha256,
                "url": f"{files}/{quote(artifact.name)}",
            }
            for artifact in artifacts
        ],
    }


def name_download(job: Job, name: str) -> str:
    """Return the name that an artifact of a job gets when it is downloaded."""
    return KINDS[Kind(job.kind)].name_download(job.params, job.result, name) if job.kind in KINDS else name


def serialize_event(event: JobEvent) -> dict[str, Any]:
    """Build the document of an event: the data and the time of the event."""
    document = event.data | {"at": format_timestamp(event.at)}
    if document.get("error") is not None:
        document["error"] = render_error(document["error"])
    return document


def serialize_upload(upload: Upload, retention_days: float) -> responses.UploadSummary:
    """Build the document of an upload, without what its inspection found."""
    try:
        kept_until = upload.created_at + timedelta(days=retention_days)
    except OverflowError:  # later than the last date that can be represented
        kept_until = None
    return {
        "id": upload.id,
        "bytes": upload.bytes,
        "sha256": upload.sha256,
        "media_type": upload.media_type,
        "filename": upload.filename,
        "created_at": format_timestamp(upload.created_at),
        "kept_until": _format_optional_timestamp(kept_until),
        "kind": cast("UploadKind", upload.kind),  # a kind that this version does not know is shown as it is
        "inspection": _serialize_inspection(upload),
    }


def serialize_inspected_upload(upload: Upload, retention_days: float) -> responses.Upload:
    """Build the document of an upload that was read with its facts."""
    summary = serialize_upload(upload, retention_days)
    if summary["inspection"] is None:
        return {**summary, "inspection": None}
    return {**summary, "inspection": cast("responses.Inspection", {**summary["inspection"], **present_facts(upload)})}


def _serialize_inspection(upload: Upload) -> responses.InspectionSummary | None:
    if upload.inspection_state is None:
        return None
    problem = None if upload.problem is None else cast("responses.Message", render_stored(upload.problem))
    return {"state": InspectionState(upload.inspection_state), "problem": problem}


def serialize_devices(session: Session, max_wait_s: float) -> list[responses.Device]:
    """Build a document for each device class: its live workers, what they offer, and the number of its jobs."""
    live = worker_queries.list_live_workers(session)
    workers = {device: [worker for worker in live if worker.device == device] for device in DeviceClass}
    load = queries.count_by_device(session)
    stalled = worker_queries.list_stalled_workers(session, max_wait_s)
    return [
        {
            "device": device,
            "workers_alive": len(workers[device]),
            "workers_stalled": [worker.name for worker in stalled if worker.device == device],
            "engines": {kind: engine for worker in workers[device] for kind, engine in worker.engines.items()},
            "precisions": _merge_precisions(workers[device]),
            "queued": load.get((device, State.QUEUED), 0),
            "running": load.get((device, State.RUNNING), 0),
        }
        for device in DeviceClass
    ]


def _merge_precisions(workers: Sequence[Worker]) -> dict[str, list[str]]:
    """For each kind, return the precisions that at least one worker offers.

    The precisions of the first worker come first, in the order of that worker.
    """
    merged: dict[str, dict[str, None]] = {}
    for worker in workers:
        for kind, precisions in worker.precisions.items():
            merged.setdefault(kind, {}).update(dict.fromkeys(precisions))
    return {kind: list(precisions) for kind, precisions in merged.items()}


def _estimate_remaining_s(job: Job) -> float | None:
    """Estimate the time to the end of the current stage, from the speed in this stage.

    Other stages do not count, because their speeds and units differ. Progress that comes from the checkpoint of an
    earlier attempt does not count either, because this attempt spent no time on it.
    """
    if job.state != State.RUNNING or job.stage_started_at is None or job.stage_started_done is None:
        return None
    done = job.progress_done - job.stage_started_done
    remaining = job.progress_total - job.progress_done
    if done <= 0 or remaining < 0:
        return None
    elapsed_s = (datetime.now(UTC) - job.stage_started_at).total_seconds()
    return round(max(0.0, elapsed_s * remaining / done), 1)


def _present_result(job: Job) -> dict[str, Any] | None:
    if job.result is None or job.kind not in KINDS:
        return job.result
    return dict(KINDS[Kind(job.kind)].present_result(job.result))


def _serialize_error(error: Mapping[str, Any] | None) -> responses.JobError | None:
    return None if error is None else cast("responses.JobError", render_error(error))


def _serialize_webhook(webhook: Mapping[str, Any] | None) -> responses.Webhook | None:
    return None if webhook is None else {"url": webhook["url"], "events": webhook["events"]}


def _format_optional_timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else format_timestamp(moment)
