"""Queries about jobs and uploads; nothing here changes a row."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select, union_all
from sqlalchemy.orm import Session, aliased

from shared.database.connection import now
from shared.database.tables import Artifact, Job, JobEvent, JobLabel, Upload
from shared.errors import NotFoundError
from shared.jobs import AUTO, ENDED, DeviceClass, Kind, Need, State
from shared.texts import text

MAX_EVENTS_PER_READ: Final = 500
PUBLISHED_ARTIFACTS: Final = (
    select(Artifact).join(Job, Job.id == Artifact.job_id).where(Job.state == State.SUCCEEDED).order_by(Artifact.name)
)
"""The query for the artifacts that clients may see: the artifacts of jobs that have succeeded.

The artifacts of a running job are recorded as well, but clients may not see them before the job has succeeded.
"""

# The following statements are built only once, since building a statement takes longer than running it. Polls run these
# statements and little else.
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
    """Which jobs to list; a field that is ``None`` or empty matches every job.

    Parameters
    ----------
    states
        A job matches if it is in one of these states.
    """

    owner: str | None = None
    states: Sequence[str] = ()
    kind: str | None = None
    device: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None

    def newest_statement(self, limit: int, before: str | None) -> Select[Job]:
        """Build the query for the matching jobs, newest first.

        Parameters
        ----------
        limit
            The maximum number of jobs.
        before
            Id of a job: only older jobs match. ``None``: jobs of any age match.
        """
        states = sorted(set(self.states))
        if len(states) <= 1:
            return self._newest_in_state(Job, states[0] if states else None, limit, before)
        # No index has the jobs of several states in the order of their ids. So the newest jobs of each state are found
        # by the index, and the result is the newest of these jobs.
        newest = (self._newest_in_state(Job.id, state, limit, before).subquery() for state in states)
        ids = union_all(*(select(each.c.id) for each in newest))
        return select(Job).where(Job.id.in_(ids)).order_by(Job.id.desc()).limit(limit)

    def _newest_in_state(self, selected: Any, state: str | None, limit: int, before: str | None) -> Select[Any]:  # noqa: ANN401 - a column, or the class of the row
        statement = select(selected).where(*self._list_conditions(state))
        order = Job.id
        for name, value in self.labels.items():
            label = aliased(JobLabel)
            matches = [label.job_id == Job.id, label.name == name, label.value == value]
            matches += [] if self.owner is None else [label.owner == self.owner]
            statement = statement.join(label, and_(*matches))
            # The index on labels also contains the job id. SQLite uses this order of the index, instead of sorting the
            # jobs, only if ORDER BY names a column of the table of labels.
            order = label.job_id
        if before is not None:
            statement = statement.where(order < before)
        return statement.order_by(order.desc()).limit(limit)

    def _list_conditions(self, state: str | None) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        columns = (Job.owner, Job.state, Job.kind, Job.device)
        for column, value in zip(columns, (self.owner, state, self.kind, self.device), strict=True):
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
        Whether no event can come after these events, because the job has ended and all its events have been read.
    more
        Whether there may be later events that were not read, because the maximum number was reached.
    """

    events: Sequence[JobEvent]
    last: bool
    more: bool


@dataclass(frozen=True)
class QueueLoad:
    """Number and age of the jobs that have a certain kind, device class and state.

    Parameters
    ----------
    device
        The device class; ``auto`` if no class has been chosen yet.
    oldest_s
        Time since the oldest of these jobs was submitted, in seconds.
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
        Id of the last job on the previous page: only older jobs are listed.
    """
    return session.scalars(job_filter.newest_statement(limit, before)).all()


def list_artifacts_of(session: Session, job_id: str) -> Sequence[Artifact]:
    """List the published artifacts of a job, sorted by name."""
    return session.scalars(_SELECT_ARTIFACTS, {"job_id": job_id}).all()


def list_artifacts(session: Session, job_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """Return, for each job id, the published artifacts of the job, sorted by name."""
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
    # No artifact has a name with a NUL, and PostgreSQL refuses a parameter with a NUL, so no such name is looked up.
    parameters = {"job_id": job_id, "artifact_name": name}
    artifact = session.scalars(_SELECT_ARTIFACT, parameters).one_or_none() if "\0" not in name else None
    if artifact is None:
        raise NotFoundError(text("artifact-not-found", job=job_id, name=name))
    return artifact


def read_events(session: Session, job_id: str, after: int) -> EventBatch:
    """Read the events of a job that come after the event with the id ``after``.

    A transition changes the state of the job and adds an event. Here a single statement reads both the state and the
    events, so it sees either both changes of a transition or neither.

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
    """Count, for a queued job, the queued jobs of the same kind and device class that are claimed earlier."""
    goes_first = or_(Job.priority > job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    same_queue = Job.device.is_not_distinct_from(job.device)
    statement = select(func.count()).where(Job.state == State.QUEUED, Job.kind == job.kind, same_queue, goes_first)
    return session.scalar(statement) or 0


def find_queue_positions(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """Return, for each job id, the number of queued jobs of the same kind and device class that are claimed earlier.

    The jobs are counted in one pass over the queue. The result contains no job that is no longer queued.
    """
    if not job_ids:
        return {}
    order = func.row_number().over(partition_by=(Job.kind, Job.device), order_by=(Job.priority.desc(), Job.id))
    queue = select(Job.id, (order - 1).label("before")).where(Job.state == State.QUEUED).subquery()
    statement = select(queue.c.id, queue.c.before).where(queue.c.id.in_(job_ids))
    return {row.id: row.before for row in session.execute(statement)}


@cache
def next_job_statement(
    selected: Any,  # noqa: ANN401 - a column, or the class of the row
    kinds: tuple[Kind, ...],
    device: DeviceClass,
    *,
    locked: bool = False,
    needs: tuple[tuple[Kind, str], ...] = (),
) -> Select[Any]:
    """Build the query for the best queued job that a device can run: the oldest job with the highest priority.

    The first column of the queue's index is the kind. So if there are several kinds, one subquery per kind finds the
    best job of this kind, and the result is the best of these jobs.

    Parameters
    ----------
    selected
        The column that the query returns, or `Job` for the whole row.
    locked
        If true, the query locks the row, and skips rows that other transactions have locked.
    needs
        Kinds with the parameter that names what their jobs need. Jobs that need something that the parameter
        ``missing_KIND`` of the query lists are passed over.
    """
    if len(kinds) == 1:
        best = _order_by_priority(
            select(selected).where(
                Job.state == State.QUEUED,
                Job.kind == kinds[0],
                Job.wanted_device.in_([AUTO, device]),
                Job.available_at <= now(),
                Job.deadline_at > now(),
                *(
                    Job.params[parameter].as_string().not_in(bindparam(f"missing_{kind}", expanding=True))
                    for kind, parameter in needs
                    if kind == kinds[0]
                ),
            )
        )
        return best.with_for_update(skip_locked=True) if locked else best
    best_of_each = [
        next_job_statement(Job.id, (kind,), device, locked=locked, needs=needs).scalar_subquery() for kind in kinds
    ]
    return _order_by_priority(select(selected).where(Job.id.in_(best_of_each)))


def _order_by_priority(jobs: Select[Any]) -> Select[Any]:
    return jobs.order_by(Job.priority.desc(), Job.id).limit(1)


def find_next_job(
    session: Session, kinds: Sequence[Kind], device: DeviceClass, missing: Collection[Need] = ()
) -> Job | None:
    """Return the job that a worker with these kinds and this device class would claim next.

    Parameters
    ----------
    missing
        What this worker does not have yet: the jobs that need it are passed over.
    """
    names: dict[tuple[Kind, str], list[str]] = {}
    for need in missing:
        names.setdefault((need.kind, need.parameter), []).append(need.name)
    statement = next_job_statement(Job, tuple(kinds), device, needs=tuple(sorted(names)))
    parameters = {f"missing_{kind}": listed for (kind, _), listed in names.items()}
    job: Job | None = session.scalars(statement, parameters).one_or_none()
    return job


def list_needed_names(session: Session, kind: Kind, parameter: str) -> set[str]:
    """Return what the jobs of a kind need that have not ended: the different values of the parameter that names it."""
    name = Job.params[parameter].as_string()
    unended = Job.state.in_([State.QUEUED, State.RUNNING])
    return {found for found in session.scalars(select(name).where(unended, Job.kind == kind).distinct()) if found}


def find_uploads(session: Session, upload_ids: Sequence[str], owner: str | None = None) -> dict[str, Upload]:
    """Return the uploads with the given ids, keyed by id; ids of uploads that do not exist are missing in the result.

    Parameters
    ----------
    owner
        Return only uploads of this owner; ``None`` for the uploads of every owner.
    """
    if not upload_ids:
        return {}
    conditions = [Upload.id.in_(upload_ids)] + ([] if owner is None else [Upload.owner == owner])
    return {upload.id: upload for upload in session.scalars(select(Upload).where(*conditions))}


def list_uploads(session: Session, owner: str, limit: int, before: str | None = None) -> Sequence[Upload]:
    """List an owner's uploads, newest first.

    Parameters
    ----------
    before
        Id of the last upload on the previous page: only older uploads are listed.
    """
    statement = select(Upload).where(Upload.owner == owner)
    if before is not None:
        statement = statement.where(Upload.id < before)
    return session.scalars(statement.order_by(Upload.id.desc()).limit(limit)).all()


def find_owner(session: Session, job_id: str) -> str | None:
    """Return the owner of a job; ``None`` if there is no such job."""
    return session.scalar(select(Job.owner).where(Job.id == job_id))


def count_queued(session: Session, owner: str) -> int:
    """Count an owner's queued jobs."""
    return session.scalar(select(func.count()).where(Job.state == State.QUEUED, Job.owner == owner)) or 0


def sum_unended_amounts(session: Session, owner: str, kind: Kind) -> float:
    """Return how much an owner's queued and running jobs of a kind compute together, in the unit of the kind."""
    unended = Job.state.in_([State.QUEUED, State.RUNNING])
    return session.scalar(select(func.sum(Job.amount)).where(Job.owner == owner, unended, Job.kind == kind)) or 0.0


def count_uploaded_bytes(session: Session, owner: str) -> int:
    """Return the total size of an owner's stored uploads, in bytes."""
    return int(session.scalar(select(func.sum(Upload.bytes)).where(Upload.owner == owner)) or 0)


def count_by_device(session: Session) -> dict[tuple[str, str], int]:
    """Return, for each device class and state, the number of jobs that have not ended."""
    counts: Counter[tuple[str, str]] = Counter()
    for load in measure_queue_load(session):
        counts[load.device, load.state] += load.jobs
    return counts


def measure_queue_load(session: Session) -> list[QueueLoad]:
    """Measure the queue load for each kind, device class and state; rows of ended jobs are not read."""
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
