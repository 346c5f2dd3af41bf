"""The statements of `shared.database.transitions`, each built once.

SQLAlchemy takes longer to build a statement than to run it. So the values that differ from run to run are not part of
the statement, but parameters (``bindparam``) that the statement is run with.
"""

from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Executable,
    Float,
    Insert,
    Update,
    bindparam,
    case,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from shared.database import queries
from shared.database.connection import now
from shared.database.tables import Artifact, Job
from shared.jobs import AUTO, TRANSITIONS, DeviceClass, Kind, Progress, State, TransitionedJob

MAX_SHOWN_DOWNLOADS: Final = 20
"""The progress of a download is written to at most this many of the jobs that wait for it, the first of the queue."""
SWEEP_BATCH: Final = 200
"""The maximum number of jobs that one statement of the sweeper changes."""
_JOBS: Final = Job.metadata.tables[Job.__tablename__]
_ARTIFACTS: Final = Artifact.metadata.tables[Artifact.__tablename__]
COLUMNS: Final = _JOBS.c
TRANSITIONED_COLUMNS: Final = [COLUMNS[field.name] for field in fields(TransitionedJob)]
_HAS_ARTIFACTS: Final = exists().where(_ARTIFACTS.c.job_id == COLUMNS.id).label("has_artifacts")

Condition = tuple[ColumnElement[bool], ...]
"""Expressions that select the rows of ``jobs`` to be changed; a row is selected if it meets every expression."""


def _seconds_from_now(parameter: str) -> now:
    """Build the SQL expression for the current time plus as many seconds as the named parameter contains."""
    return now(bindparam(parameter, type_=Float))


HELD_LEASE: Final[Condition] = (
    COLUMNS.id == bindparam("lease_job_id"),
    COLUMNS.attempt == bindparam("lease_attempt"),
    COLUMNS.state == State.RUNNING,
)
"""The job of a lease, if the attempt that has the lease is still running."""
QUEUED_JOB: Final[Condition] = (COLUMNS.id == bindparam("queued_job_id"), COLUMNS.state == State.QUEUED)
"""One job, if it is queued."""
RUNNING_ON_WORKER: Final[Condition] = (COLUMNS.worker == bindparam("worker_name"), COLUMNS.state == State.RUNNING)
"""Every job that a worker runs."""
TO_CANCEL_ON_WORKER: Final[Condition] = (*RUNNING_ON_WORKER, COLUMNS.cancel_requested.is_(True))
"""Every job that a worker runs and whose cancellation is requested."""
PAST_DEADLINE: Final[Condition] = (
    COLUMNS.id.in_(
        select(COLUMNS.id)
        .where(COLUMNS.state == State.QUEUED, COLUMNS.deadline_at < now())
        .limit(SWEEP_BATCH)
        .with_for_update(skip_locked=True)
    ),
    COLUMNS.state == State.QUEUED,
)
"""Queued jobs whose deadline has passed."""


@cache
def waiting_condition(parameter: str) -> Condition:
    """Select the queued jobs that need something: the jobs whose parameter has the value ``needed_name``."""
    return (
        COLUMNS.state == State.QUEUED,
        COLUMNS.kind == bindparam("needed_kind"),
        or_(COLUMNS.wanted_device == AUTO, COLUMNS.wanted_device == bindparam("needed_device")),
        COLUMNS.params[parameter].as_string() == bindparam("needed_name"),
    )


# The columns of the progress, each with the parameter that contains the new value.
_PROGRESS: Final[dict[str, Any]] = {
    f"progress_{field.name}": bindparam(f"new_{field.name}") for field in fields(Progress)
}
# The columns that change when a job returns to the queue, apart from the state.
_NO_LEASE: Final = {
    "lease_until": None,
    "worker": None,
    "started_at": None,
    "available_at": _seconds_from_now("delay_s"),
}


def transition_statement(to: State, *condition: ColumnElement[bool], **values: Any) -> Update:  # noqa: ANN401 - columns of any type
    """Build the UPDATE that moves jobs to the state ``to``.

    It changes every row that meets the condition and whose current state allows this transition.
    """
    sources = [state for state, targets in TRANSITIONS.items() if to in targets]
    return update(_JOBS).where(COLUMNS.state.in_(sources), *condition).values(state=to, **values)


def _returning_jobs(statement: Insert | Update) -> Executable:
    """Make a statement return the rows that it writes, as `Job` objects."""
    return select(Job).from_statement(statement.returning(_JOBS)).execution_options(populate_existing=True)


@cache
def claim_statement(engines: tuple[tuple[Kind, str], ...], device: DeviceClass, *, by_id: bool) -> Executable:
    """Build the transition to ``running``; the statement returns the claimed `Job`.

    Parameters
    ----------
    engines
        The kinds that the worker runs, each with the name of its backend.
    by_id
        If true, the job with the id in the parameter ``claimed_job_id`` is claimed; if false, the best queued job.
    """
    best = queries.next_job_statement(Job.id, tuple(kind for kind, _ in engines), device, locked=True).scalar_subquery()
    statement = transition_statement(
        State.RUNNING,
        COLUMNS.id == (bindparam("claimed_job_id") if by_id else best),
        attempt=COLUMNS.attempt + 1,
        worker=bindparam("worker_name"),
        engine=case(dict(engines), value=COLUMNS.kind),
        device=device,
        started_at=now(),
        lease_until=_seconds_from_now("lease_s"),
        progress_stage=None,
        progress_done=0,
        progress_total=0,
        progress_unit=None,
        stage_started_at=None,
        stage_started_done=None,
    )
    return _returning_jobs(statement)


@cache
def heartbeat_statement(*, with_progress: bool) -> Executable:
    """Build the statement that extends a lease, writes the progress, and returns the columns of `HeartbeatReply`."""
    values: dict[str, Any] = {"lease_until": _seconds_from_now("lease_s")}
    if with_progress:
        values |= _progress_values()
    timed_out = (COLUMNS.deadline_at <= now()).label("timed_out")
    return update(_JOBS).where(*HELD_LEASE).values(**values).returning(COLUMNS.cancel_requested, timed_out)


@cache
def download_progress_statement(parameter: str) -> Executable:
    """Build the statement that writes the progress of a download to the jobs that wait for it; returns their ids."""
    first = (
        select(COLUMNS.id)
        .where(*waiting_condition(parameter))
        .order_by(COLUMNS.priority.desc(), COLUMNS.id)
        .limit(MAX_SHOWN_DOWNLOADS)
    )
    statement = update(_JOBS).where(COLUMNS.id.in_(first), COLUMNS.state == State.QUEUED)
    return statement.values(**_progress_values()).returning(COLUMNS.id)


def _progress_values() -> dict[str, Any]:
    """Return the columns that change with the progress, and their new values."""
    # A new stage has started if the row contains another stage, or more progress than is reported now.
    starts = or_(
        COLUMNS.progress_stage.is_distinct_from(_PROGRESS["progress_stage"]),
        COLUMNS.progress_done > _PROGRESS["progress_done"],
    )
    return _PROGRESS | {
        "stage_started_at": case((starts, now()), else_=COLUMNS.stage_started_at),
        "stage_started_done": case((starts, _PROGRESS["progress_done"]), else_=COLUMNS.stage_started_done),
    }


@cache
def finish_statement(to: State, condition: Condition, *, with_progress: bool) -> ReturningUpdate[Any]:
    """Build the transition to a final state.

    The statement returns the columns of `TransitionedJob`, and whether artifacts of the job are recorded. If none are
    recorded, the caller needs no second statement to delete them.
    """
    statement = transition_statement(
        to,
        *condition,
        result=bindparam("new_result"),
        error=bindparam("new_error"),
        finished_at=now(),
        lease_until=None,
        **(_PROGRESS if with_progress else {}),
    )
    return statement.returning(*TRANSITIONED_COLUMNS, _HAS_ARTIFACTS)


@cache
def requeue_statement(condition: Condition) -> ReturningUpdate[Any]:
    """Build the transition back to ``queued``; the statement returns the columns of `TransitionedJob`."""
    return transition_statement(State.QUEUED, *condition, **_NO_LEASE).returning(*TRANSITIONED_COLUMNS)


INSERT_JOB: Final = _returning_jobs(
    insert(_JOBS).values(created_at=now(), available_at=now(), deadline_at=_seconds_from_now("timeout_s"))
)
REQUEST_CANCEL: Final = (
    update(_JOBS)
    .where(COLUMNS.id == bindparam("running_job_id"), COLUMNS.state == State.RUNNING)
    .values(cancel_requested=True)
    .returning(*TRANSITIONED_COLUMNS)
)
"""Requests that a running job is cancelled, and returns the columns of `TransitionedJob`."""
INSERT_ARTIFACTS: Final = insert(Artifact)
DELETE_ARTIFACTS: Final = delete(_ARTIFACTS).where(_ARTIFACTS.c.job_id == bindparam("ended_job_id"))
"""Deletes every recorded artifact of a job."""
DELETE_NAMED_ARTIFACTS: Final = delete(_ARTIFACTS).where(
    _ARTIFACTS.c.job_id == bindparam("replaced_job_id"), _ARTIFACTS.c.name == bindparam("replaced_name")
)
"""Deletes the recorded artifact of a job that has a certain name."""
