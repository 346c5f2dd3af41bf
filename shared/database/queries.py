"""Queries about jobs, workers and uploads; nothing here changes a row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session, aliased

from shared.database.connection import now
from shared.database.tables import Artifact, Job, JobEvent, JobLabel, Upload, Worker
from shared.errors import NotFoundError
from shared.jobs import AUTO, ENDED, DeviceClass, Kind, State
from shared.texts import text

MAX_MISSED_HEARTBEATS: Final = 3
"""A worker that has missed more heartbeats does not count as alive."""
MAX_EVENTS_PER_READ: Final = 500
PUBLISHED_ARTIFACTS: Final = (
    select(Artifact).join(Job, Job.id == Artifact.job_id).where(Job.state == State.SUCCEEDED).order_by(Artifact.name)
)
"""The artifacts that clients may see: those of jobs that have succeeded. A running job's are already recorded."""

# Built once: polls run little else, and building a statement takes longer than running it.
_SELECT_JOB: Final = select(Job).where(Job.id == bindparam("job_id"))
_SELECT_ARTIFACTS: Final = PUBLISHED_ARTIFACTS.where(Artifact.job_id == bindparam("job_id"))
_SELECT_ARTIFACT: Final = _SELECT_ARTIFACTS.where(Artifact.name == bindparam("artifact_name"))
_SELECT_EVENTS: Final = (
    select(Job.state, JobEvent)
    .outerjoin(JobEvent, and_(JobEvent.job_id == Job.id, JobEvent.id > bindparam("after_event_id")))
    .where(Job.id == bindparam("job_id"))
    .order_by(JobEvent.id)
    .limit(bindparam("max_events"))
)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs to list; ``None`` means any."""

    owner: str | None = None
    state: str | None = None
    kind: str | None = None
    device: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None

    def newest_statement(self, before: str | None) -> Select[Job]:
        """Build the query of the matching jobs, newest first.

        Parameters
        ----------
        before
            Only jobs older than this id.
        """
        statement = select(Job).where(*self._list_conditions())
        order = Job.id
        for name, value in self.labels.items():
            label = aliased(JobLabel)
            matches = [label.job_id == Job.id, label.name == name, label.value == value]
            matches += [] if self.owner is None else [label.owner == self.owner]
            statement = statement.join(label, and_(*matches))
            order = label.job_id  # SQLite reads the index of labels in order only if the order is by its own column
        if before is not None:
            statement = statement.where(order < before)
        return statement.order_by(order.desc())

    def _list_conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        columns = (Job.owner, Job.state, Job.kind, Job.device)
        for column, value in zip(columns, (self.owner, self.state, self.kind, self.device), strict=True):
            if value is not None:
                conditions.append(column == value)
        if self.created_after is not None:
            conditions.append(Job.created_at > self.created_after)
        if self.created_before is not None:
            conditions.append(Job.created_at < self.created_before)
        return conditions


@dataclass(frozen=True)
class EventBatch:
    """The events of a job after a certain event, as they were at one moment.

    Parameters
    ----------
    last
        Whether no event can follow: the job has ended, and all its events have been read.
    more
        Whether there are more events than were read.
    """

    events: Sequence[JobEvent]
    last: bool
    more: bool


@dataclass(frozen=True)
class QueueLoad:
    """The jobs of one kind, class of device and state.

    Parameters
    ----------
    device
        The class; ``auto`` if none has been chosen yet.
    oldest_s
        How long ago the oldest of them was submitted, in seconds.
    """

    kind: str
    device: str
    state: str
    jobs: int
    oldest_s: float


def get_job(session: Session, job_id: str) -> Job:
    """Return a job.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    job = session.execute(_SELECT_JOB, {"job_id": job_id}).scalar_one_or_none()
    if job is None:
        raise NotFoundError(text("job-not-found", job=job_id))
    return job


def list_jobs(session: Session, job_filter: JobFilter, limit: int, before: str | None = None) -> Sequence[Job]:
    """List jobs, newest first.

    Parameters
    ----------
    before
        Only jobs older than this id: the last id of the page before.
    """
    return session.scalars(job_filter.newest_statement(before).limit(limit)).all()


def list_artifacts_of(session: Session, job_id: str) -> Sequence[Artifact]:
    """List a job's published artifacts, by name."""
    return session.scalars(_SELECT_ARTIFACTS, {"job_id": job_id}).all()


def list_artifacts(session: Session, job_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """List the published artifacts of several jobs: job id to artifacts, by name."""
    artifacts: dict[str, list[Artifact]] = {job_id: [] for job_id in job_ids}
    if job_ids:
        for artifact in session.scalars(PUBLISHED_ARTIFACTS.where(Artifact.job_id.in_(job_ids))):
            artifacts[artifact.job_id].append(artifact)
    return artifacts


def get_artifact(session: Session, job_id: str, name: str) -> Artifact:
    """Return a published artifact.

    Raises
    ------
    NotFoundError
        There is no such artifact.
    """
    # No name contains a NUL, and PostgreSQL refuses to look for one.
    parameters = {"job_id": job_id, "artifact_name": name}
    artifact = session.scalars(_SELECT_ARTIFACT, parameters).one_or_none() if "\0" not in name else None
    if artifact is None:
        raise NotFoundError(text("artifact-not-found", job=job_id, name=name))
    return artifact


def read_events(session: Session, job_id: str, after: int) -> EventBatch:
    """Read the events of a job that come after a certain event.

    It is a single statement, so it sees both the state and the events of a transition, or neither.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    parameters = {"job_id": job_id, "after_event_id": after, "max_events": MAX_EVENTS_PER_READ}
    rows = session.execute(_SELECT_EVENTS, parameters).all()
    if not rows:
        raise NotFoundError(text("job-not-found", job=job_id))
    more = len(rows) == MAX_EVENTS_PER_READ
    events = [event for _, event in rows if event is not None]
    return EventBatch(events, last=rows[0].state in ENDED and not more, more=more)


def count_jobs_ahead(session: Session, job: Job) -> int:
    """Count the queued jobs of the same kind and device class that are claimed before a queued job."""
    goes_first = or_(Job.priority > job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    same_queue = Job.device.is_not_distinct_from(job.device)
    statement = select(func.count()).where(Job.state == State.QUEUED, Job.kind == job.kind, same_queue, goes_first)
    return session.scalar(statement) or 0


def find_queue_positions(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """Count the same for many jobs in one pass over the queue; jobs that are no longer queued are left out."""
    if not job_ids:
        return {}
    order = func.row_number().over(partition_by=(Job.kind, Job.device), order_by=(Job.priority.desc(), Job.id))
    queue = select(Job.id, (order - 1).label("before")).where(Job.state == State.QUEUED).subquery()
    statement = select(queue.c.id, queue.c.before).where(queue.c.id.in_(job_ids))
    return {row.id: row.before for row in session.execute(statement)}


@cache
def next_job_statement(
    selected: Any,  # noqa: ANN401 - a column or the row
    kinds: tuple[Kind, ...],
    device: DeviceClass,
    *,
    locked: bool = False,
) -> Select[Any]:
    """Build the query of the best queued job that a device can run: highest priority first, then the oldest.

    The best job of each kind is found by itself, since the index is by kind; the best of these is the result.

    Parameters
    ----------
    selected
        What is selected from the row.
    locked
        Whether the row is locked, and rows that others have locked are skipped.
    """
    if len(kinds) == 1:
        best = _order_by_priority(
            select(selected).where(
                Job.state == State.QUEUED,
                Job.kind == kinds[0],
                Job.wanted_device.in_([AUTO, device]),
                Job.available_at <= now(),
                Job.deadline_at > now(),
            )
        )
        return best.with_for_update(skip_locked=True) if locked else best
    best_of_each = [next_job_statement(Job.id, (kind,), device, locked=locked).scalar_subquery() for kind in kinds]
    return _order_by_priority(select(selected).where(Job.id.in_(best_of_each)))


def _order_by_priority(jobs: Select[Any]) -> Select[Any]:
    return jobs.order_by(Job.priority.desc(), Job.id).limit(1)


def find_next_job(session: Session, kinds: Sequence[Kind], device: DeviceClass) -> Job | None:
    """Return the job that a worker would claim next, among all kinds that it runs."""
    job: Job | None = session.scalars(next_job_statement(Job, tuple(kinds), device)).one_or_none()
    return job


def find_uploads(session: Session, upload_ids: Sequence[str], owner: str | None = None) -> dict[str, Upload]:
    """Return the uploads that exist, by id.

    Parameters
    ----------
    owner
        Only uploads of this owner; ``None`` for uploads of any.
    """
    if not upload_ids:
        return {}
    conditions = [Upload.id.in_(upload_ids)] + ([] if owner is None else [Upload.owner == owner])
    return {upload.id: upload for upload in session.scalars(select(Upload).where(*conditions))}


def find_owner(session: Session, job_id: str) -> str | None:
    """Return the owner of a job; ``None`` if there is no such job."""
    return session.scalar(select(Job.owner).where(Job.id == job_id))


def count_queued(session: Session, owner: str) -> int:
    """Count an owner's queued jobs."""
    return session.scalar(select(func.count()).where(Job.state == State.QUEUED, Job.owner == owner)) or 0


def count_uploaded_bytes(session: Session, owner: str) -> int:
    """Count the bytes of all uploads of an owner that are stored."""
    return int(session.scalar(select(func.sum(Upload.bytes)).where(Upload.owner == owner)) or 0)


def list_live_workers(session: Session) -> Sequence[Worker]:
    """List the workers that are alive: those with a recent heartbeat."""
    is_recent = Worker.beat_at > now(Worker.beat_interval_s * -MAX_MISSED_HEARTBEATS)
    return session.scalars(select(Worker).where(is_recent).order_by(Worker.name)).all()


def choose_device(session: Session, kind: Kind) -> DeviceClass | None:
    """Return the best device class with a live worker for a kind, or ``None`` if there is no live worker."""
    live = {worker.device for worker in list_live_workers(session) if kind in worker.kinds}
    return next((device for device in DeviceClass if device in live), None)


def has_worker(session: Session, kind: str, device: str) -> bool:
    """Return whether a live worker runs a kind on a device class; any class for ``auto``."""
    return bool(_list_workers_for(session, kind, device))


def list_offered_precisions(session: Session, kind: str, device: str) -> Sequence[str] | None:
    """Return the precisions that the live workers for a kind and a device class offer; any class for ``auto``.

    ``None`` if nothing is known: there is no live worker, or one that does not say what it offers.
    """
    workers = _list_workers_for(session, kind, device)
    offers = [worker.precisions.get(kind, []) for worker in workers]
    if not all(offers):
        return None
    return sorted({precision for offer in offers for precision in offer}) or None


def _list_workers_for(session: Session, kind: str, device: str) -> list[Worker]:
    return [worker for worker in list_live_workers(session) if kind in worker.kinds and device in {AUTO, worker.device}]


def count_by_device(session: Session) -> dict[tuple[str, str], int]:
    """Count the jobs that have not ended, by device class and state."""
    counts: Counter[tuple[str, str]] = Counter()
    for load in measure_queue_load(session):
        counts[load.device, load.state] += load.jobs
    return counts


def measure_queue_load(session: Session) -> list[QueueLoad]:
    """Count the jobs that have not ended, by kind, device class and state; ended jobs are not read."""
    device = func.coalesce(Job.device, Job.wanted_device)
    statement = (
        select(Job.kind, device, Job.state, func.count(), func.min(Job.created_at), now())
        .where(Job.state.in_([State.QUEUED, State.RUNNING]))
        .group_by(Job.kind, device, Job.state)
    )
    return [
        QueueLoad(kind, device, state, jobs, max(0.0, (read_at - oldest_at).total_seconds()))
        for kind, device, state, jobs, oldest_at, read_at in session.execute(statement)
    ]


def list_busy_workers(session: Session) -> set[str]:
    """Return the names of the workers that run a job."""
    statement = select(Job.worker).where(Job.state == State.RUNNING, Job.worker.is_not(None)).distinct()
    return {name for name in session.scalars(statement) if name}
