"""What is asked about jobs, workers and uploads; nothing here changes a row."""

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

MAX_MISSED_HEARTBEATS = 3
MAX_EVENTS_PER_READ: Final = 500
"""How many events are read at once."""
# Written once, since polls ask for little else, and writing one takes longer than running it.
_JOB: Final = select(Job).where(Job.id == bindparam("of"))
_ARTIFACTS: Final = select(Artifact).where(Artifact.job_id == bindparam("of")).order_by(Artifact.name)
_NEXT_EVENTS: Final = (
    select(Job.state, JobEvent)
    .outerjoin(JobEvent, and_(JobEvent.job_id == Job.id, JobEvent.id > bindparam("after")))
    .where(Job.id == bindparam("of"))
    .order_by(JobEvent.id)
    .limit(bindparam("most"))
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

    def select_newest(self, before: str | None) -> Select[Job]:
        """Write the filter as SQL, newest first.

        Parameters
        ----------
        before
            Only jobs older than this id.
        """
        statement = select(Job).where(*self._list_conditions())
        order = Job.id
        for name, value in self.labels.items():
            label = aliased(JobLabel)
            same = [label.job_id == Job.id, label.name == name, label.value == value]
            same += [] if self.owner is None else [label.owner == self.owner]
            statement = statement.join(label, and_(*same))
            order = label.job_id  # SQLite reads a label's index in order only where it is asked for its column
        if before is not None:
            statement = statement.where(order < before)
        return statement.order_by(order.desc())

    def _list_conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        columns = (Job.owner, Job.state, Job.kind, Job.device)
        for column, wanted in zip(columns, (self.owner, self.state, self.kind, self.device), strict=True):
            if wanted is not None:
                conditions.append(column == wanted)
        if self.created_after is not None:
            conditions.append(Job.created_at > self.created_after)
        if self.created_before is not None:
            conditions.append(Job.created_at < self.created_before)
        return conditions


@dataclass(frozen=True)
class EventBatch:
    """What has happened to a job since some event, all at one moment.

    Parameters
    ----------
    last
        Whether nothing comes after these events: the job has ended, and they are all that there are.
    more
        Whether there are more than were read.
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
        The class; ``auto`` where none has been chosen yet.
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
        There is none.
    """
    job = session.execute(_JOB, {"of": job_id}).scalar_one_or_none()
    if job is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return job


def list_jobs(session: Session, wanted: JobFilter, limit: int, before: str | None = None) -> Sequence[Job]:
    """List jobs, newest first.

    Parameters
    ----------
    before
        Only jobs older than this id: the last one of the page before.
    """
    return session.scalars(wanted.select_newest(before).limit(limit)).all()


def list_artifacts_of(session: Session, job_id: str) -> Sequence[Artifact]:
    """List a job's artifacts, by name."""
    return session.scalars(_ARTIFACTS, {"of": job_id}).all()


def list_artifacts(session: Session, job_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """List the artifacts of each of some jobs, by name."""
    found: dict[str, list[Artifact]] = {job_id: [] for job_id in job_ids}
    if job_ids:
        statement = select(Artifact).where(Artifact.job_id.in_(job_ids)).order_by(Artifact.name)
        for artifact in session.scalars(statement):
            found[artifact.job_id].append(artifact)
    return found


def get_artifact(session: Session, job_id: str, name: str) -> Artifact:
    """Return an artifact.

    Raises
    ------
    NotFoundError
        There is none of that name.
    """
    # No name holds a NUL, and PostgreSQL would not look for one.
    artifact = session.get(Artifact, (job_id, name)) if "\0" not in name else None
    if artifact is None:
        raise NotFoundError(f"Job {job_id} has no artifact {name!r}.")
    return artifact


def read_events(session: Session, job_id: str, after: int) -> EventBatch:
    """Read the events of a job that come after one of them.

    One statement sees the state and the events of each step, or neither.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    rows = session.execute(_NEXT_EVENTS, {"of": job_id, "after": after, "most": MAX_EVENTS_PER_READ}).all()
    if not rows:
        raise NotFoundError(f"There is no job {job_id}.")
    more = len(rows) == MAX_EVENTS_PER_READ
    events = [event for _, event in rows if event is not None]
    return EventBatch(events, last=rows[0].state in ENDED and not more, more=more)


def count_jobs_ahead(session: Session, job: Job) -> int:
    """Count the queued jobs that go before a queued one: of its kind, for its class of device."""
    first = or_(Job.priority > job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    same_queue = Job.device.is_not_distinct_from(job.device)
    statement = select(func.count()).where(Job.state == State.QUEUED, Job.kind == job.kind, same_queue, first)
    return session.scalar(statement) or 0


def find_queue_positions(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """Do the same for many jobs in one pass over the queue; those that are not queued any more are left out."""
    if not job_ids:
        return {}
    order = func.row_number().over(partition_by=(Job.kind, Job.device), order_by=(Job.priority.desc(), Job.id))
    queue = select(Job.id, (order - 1).label("before")).where(Job.state == State.QUEUED).subquery()
    statement = select(queue.c.id, queue.c.before).where(queue.c.id.in_(job_ids))
    return {row.id: row.before for row in session.execute(statement)}


@cache
def next_job_statement(what: Any, kinds: tuple[Kind, ...], device: DeviceClass, *, locked: bool = False) -> Select[Any]:  # noqa: ANN401 - a column or the row
    """Select from the best queued job of some kinds that a device may run: highest priority first, then the oldest.

    Kind by kind, as the index is, and then of these the best.

    Parameters
    ----------
    locked
        Whether those that others are about to claim are passed over.
    """
    if len(kinds) == 1:
        best = _order_by_priority(
            select(what).where(
                Job.state == State.QUEUED,
                Job.kind == kinds[0],
                Job.wanted_device.in_([AUTO, device]),
                Job.available_at <= now(),
                Job.deadline_at > now(),
            )
        )
        return best.with_for_update(skip_locked=True) if locked else best
    heads = [next_job_statement(Job.id, (kind,), device, locked=locked).scalar_subquery() for kind in kinds]
    return _order_by_priority(select(what).where(Job.id.in_(heads)))


def _order_by_priority(jobs: Select[Any]) -> Select[Any]:
    return jobs.order_by(Job.priority.desc(), Job.id).limit(1)


def find_next_job(session: Session, kinds: Sequence[Kind], device: DeviceClass) -> Job | None:
    """Find the job whose turn it is among all kinds that a worker runs."""
    head: Job | None = session.scalars(next_job_statement(Job, tuple(kinds), device)).one_or_none()
    return head


def find_uploads(session: Session, upload_ids: Sequence[str], owner: str | None = None) -> dict[str, Upload]:
    """Return those of some uploads that exist, by id.

    Parameters
    ----------
    owner
        Whose they must be; ``None`` for anybody's.
    """
    if not upload_ids:
        return {}
    conditions = [Upload.id.in_(upload_ids)] + ([] if owner is None else [Upload.owner == owner])
    return {upload.id: upload for upload in session.scalars(select(Upload).where(*conditions))}


def find_owner(session: Session, job_id: str) -> str | None:
    """Return whose a job is; ``None`` where there is no such job."""
    return session.scalar(select(Job.owner).where(Job.id == job_id))


def count_queued(session: Session, owner: str) -> int:
    """Count an owner's jobs that wait."""
    return session.scalar(select(func.count()).where(Job.state == State.QUEUED, Job.owner == owner)) or 0


def count_uploaded_bytes(session: Session, owner: str) -> int:
    """Count the bytes of an owner's uploads that are kept."""
    return int(session.scalar(select(func.sum(Upload.bytes)).where(Upload.owner == owner)) or 0)


def list_live_workers(session: Session) -> Sequence[Worker]:
    """List the workers whose last beat is young."""
    young = Worker.beat_at > now(Worker.beat_interval_s * -MAX_MISSED_HEARTBEATS)
    return session.scalars(select(Worker).where(young).order_by(Worker.name)).all()


def choose_device(session: Session, kind: Kind) -> DeviceClass | None:
    """Return the best class with a live worker for a kind, or ``None`` where no worker is alive."""
    live = {worker.device for worker in list_live_workers(session) if kind in worker.kinds}
    return next((device for device in DeviceClass if device in live), None)


def has_worker(session: Session, kind: str, device: str) -> bool:
    """Tell whether a live worker runs a kind on a class of device, or on any for ``auto``."""
    return any(kind in worker.kinds and device in {AUTO, worker.device} for worker in list_live_workers(session))


def count_by_device(session: Session) -> dict[tuple[str, str], int]:
    """Count the jobs that have not ended by class of device and state."""
    counts: Counter[tuple[str, str]] = Counter()
    for load in measure_queue_load(session):
        counts[load.device, load.state] += load.jobs
    return counts


def measure_queue_load(session: Session) -> list[QueueLoad]:
    """Count the jobs that have not ended by kind, class of device and state; those that have are not looked at."""
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
    """Return the names of the workers that hold a job."""
    statement = select(Job.worker).where(Job.state == State.RUNNING, Job.worker.is_not(None)).distinct()
    return {name for name in session.scalars(statement) if name}
