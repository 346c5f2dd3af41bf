"""Queries about workers; nothing here changes a row."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from shared.database.connection import now
from shared.database.tables import Job, Worker
from shared.jobs import AUTO, DeviceClass, Kind, State

MAX_MISSED_HEARTBEATS: Final = 3
"""A worker that has missed more heartbeats than this does not count as live."""


def list_live_workers(session: Session, *conditions: ColumnElement[bool]) -> Sequence[Worker]:
    """List the live workers that meet all conditions; a live worker has a recent heartbeat."""
    is_recent = Worker.beat_at > now(Worker.beat_interval_s * -MAX_MISSED_HEARTBEATS)
    return session.scalars(select(Worker).where(is_recent, *conditions).order_by(Worker.name)).all()


def list_stalled_workers(session: Session, max_wait_s: float) -> list[Worker]:
    """List the live workers that take no work: they are idle, although a job that they could run has waited too long.

    Parameters
    ----------
    max_wait_s
        How long a job may wait, and a worker be inactive, in seconds.
    """
    recently = now(-max_wait_s)
    inactive = list_live_workers(session, Worker.active_at < recently)
    if not inactive:
        return []
    busy_names = list_busy_workers(session)
    waiting = select(Job.kind, Job.wanted_device).where(
        Job.state == State.QUEUED, Job.available_at < recently, Job.deadline_at > now()
    )
    waiting_jobs = session.execute(waiting.distinct()).all()
    return [
        worker
        for worker in inactive
        if worker.name not in busy_names
        and any(kind in worker.kinds and device in {AUTO, worker.device} for kind, device in waiting_jobs)
    ]


def choose_device(session: Session, kind: Kind) -> DeviceClass | None:
    """Return the best device class with a live worker for a kind, or ``None`` if no live worker runs the kind."""
    live = {worker.device for worker in list_live_workers(session) if kind in worker.kinds}
    return next((device for device in DeviceClass if device in live), None)


def has_worker(session: Session, kind: str, device: str) -> bool:
    """Return whether a live worker runs a kind on a device class; ``auto`` stands for any class."""
    return bool(_list_workers_for(session, kind, device))


def list_offered_precisions(session: Session, kind: str, device: str) -> Sequence[str] | None:
    """Return the precisions that live workers offer for a kind on a device class; ``auto`` stands for any class.

    The result is ``None`` if the precisions are not known. They are not known if no live worker runs the kind on this
    class, or if a live worker that runs the kind there has registered no precisions for it.
    """
    workers = _list_workers_for(session, kind, device)
    offers = [worker.precisions.get(kind, []) for worker in workers]
    if not all(offers):
        return None
    return sorted({precision for offer in offers for precision in offer}) or None


def _list_workers_for(session: Session, kind: str, device: str) -> list[Worker]:
    return [worker for worker in list_live_workers(session) if kind in worker.kinds and device in {AUTO, worker.device}]


def list_busy_workers(session: Session) -> set[str]:
    """Return the names of the workers that are running a job."""
    statement = select(Job.worker).where(Job.state == State.RUNNING, Job.worker.is_not(None)).distinct()
    return {name for name in session.scalars(statement) if name}
