"""Writes what a transition publishes: events, and messages to webhooks.

Events and messages are written in the same transaction as the change of the job. Clients read the events.
`shared.webhooks.deliverer` sends the messages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from shared.database.connection import now
from shared.database.tables import Delivery, Job, JobEvent
from shared.ids import make_id
from shared.jobs import EventKind, Progress, StoredFile, TransitionedJob

_INSERT_EVENTS: Final = insert(JobEvent.metadata.tables[JobEvent.__tablename__]).values(at=now())
_INSERT_DELIVERIES: Final = insert(Delivery.metadata.tables[Delivery.__tablename__]).values(
    created_at=now(), due_at=now()
)


def publish_states(session: Session, jobs: Sequence[Job | TransitionedJob]) -> None:
    """Publish the state that each job has just entered: as an event, and as a message to the webhook of the job."""
    publish_changes(session, jobs)
    _insert_messages(session, jobs)


def publish_changes(session: Session, jobs: Iterable[Job | TransitionedJob]) -> None:
    """Publish as events that jobs have changed; webhooks get no message."""
    _insert_events(session, EventKind.STATE, [(job.id, _serialize_state(job)) for job in jobs])


def publish_progress(session: Session, job_id: str, progress: Progress) -> None:
    """Publish the progress of a job as an event."""
    _insert_events(session, EventKind.PROGRESS, [(job_id, asdict(progress))])


def publish_artifacts(session: Session, job_id: str, files: Iterable[StoredFile]) -> None:
    """Publish each artifact of a job as an event."""
    _insert_events(session, EventKind.ARTIFACT, [(job_id, _serialize_file(file)) for file in files])


def _insert_events(session: Session, kind: EventKind, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    if events:
        session.execute(_INSERT_EVENTS, [{"job_id": job_id, "kind": kind, "data": data} for job_id, data in events])


def _insert_messages(session: Session, jobs: Iterable[Job | TransitionedJob]) -> None:
    """Insert a message about each job whose webhook is subscribed to the state of the job."""
    messages = [
        {"id": make_id(), "owner": job.owner, "url": job.webhook["url"], "data": _serialize_for_webhook(job)}
        for job in jobs
        if job.webhook is not None and job.state in job.webhook["events"]
    ]
    if messages:
        session.execute(_INSERT_DELIVERIES, messages)


def _serialize_state(job: Job | TransitionedJob) -> dict[str, Any]:
    return {
        "state": job.state,
        "attempt": job.attempt,
        "worker": job.worker,
        "cancel_requested": job.cancel_requested,
        "error": job.error,
    }


def _serialize_file(file: StoredFile) -> dict[str, Any]:
    return {"name": file.name, "media_type": file.media_type, "bytes": file.bytes, "sha256": file.sha256}


def _serialize_for_webhook(job: Job | TransitionedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "attempt": job.attempt,
        "error": job.error,
        "labels": job.labels,
        "url": f"/api/v1/jobs/{job.id}",
    }
