"""The statements of `shared.database.transitions`, each built once.

SQLAlchemy takes longer to build a statement than to run it. What differs from one run to the next is a parameter.
"""

from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Executable, Float, Insert, Update, bindparam, case, insert, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from shared.database import queries
from shared.database.connection import now
from shared.database.tables import Job, JobEvent
from shared.jobs import TRANSITIONS, DeviceClass, Kind, Progress, State, TransitionedJob

SWEEP_BATCH: Final = 200
_JOBS: Final = Job.metadata.tables[Job.__tablename__]
COLUMNS: Final = _JOBS.c
TRANSITIONED_COLUMNS: Final = [COLUMNS[field.name] for field in fields(TransitionedJob)]

Condition = tuple[ColumnElement[bool], ...]
"""Which rows a step is taken from."""


def _seconds_from_now(name: str) -> now:
    """Write the moment that comes so many seconds after now as a parameter says."""
    return now(bindparam(name, type_=Float))


HELD_LEASE: Final[Condition] = (
    COLUMNS.id == bindparam("held"),
    COLUMNS.attempt == bindparam("held_attempt"),
    COLUMNS.state == State.RUNNING,
)
"""The attempt that a lease is of."""
QUEUED_JOB: Final[Condition] = (COLUMNS.id == bindparam("waiting"), COLUMNS.state == State.QUEUED)
"""A job in the queue."""
RUNNING_ON_WORKER: Final[Condition] = (COLUMNS.worker == bindparam("by"), COLUMNS.state == State.RUNNING)
"""All that a worker runs."""
TO_CANCEL_ON_WORKER: Final[Condition] = (*RUNNING_ON_WORKER, COLUMNS.cancel_requested.is_(True))
"""Those among them that are to be cancelled."""
PAST_DEADLINE: Final[Condition] = (
    COLUMNS.id.in_(
        select(COLUMNS.id)
        .where(COLUMNS.state == State.QUEUED, COLUMNS.deadline_at < now())
        .limit(SWEEP_BATCH)
        .with_for_update(skip_locked=True)
    ),
    COLUMNS.state == State.QUEUED,
)
"""Those in the queue whose deadline has passed."""
_PROGRESS: Final[dict[str, Any]] = {
    f"progress_{field.name}": bindparam(f"new_{field.name}") for field in fields(Progress)
}
_NO_LEASE: Final = {
    "lease_until": None,
    "worker": None,
    "started_at": None,
    "available_at": _seconds_from_now("pause_s"),
}


def transition_statement(to: State, *condition: ColumnElement[bool], **values: Any) -> Update:  # noqa: ANN401 - columns of any type
    """Write one edge of the state machine, for each row that meets the condition."""
    sources = [state for state, targets in TRANSITIONS.items() if to in targets]
    return update(_JOBS).where(COLUMNS.state.in_(sources), *condition).values(state=to, **values)


def _returning_jobs(statement: Insert | Update) -> Executable:
    """Make jobs of the rows that a statement writes."""
    return select(Job).from_statement(statement.returning(_JOBS)).execution_options(populate_existing=True)


@cache
def claim_statement(engines: tuple[tuple[Kind, str], ...], device: DeviceClass, *, named: bool) -> Executable:
    """Write the step to a worker: of the best queued job, or of the one that is named."""
    best = queries.next_job_statement(Job.id, tuple(kind for kind, _ in engines), device, locked=True).scalar_subquery()
    step = transition_statement(
        State.RUNNING,
        COLUMNS.id == (bindparam("named") if named else best),
        attempt=COLUMNS.attempt + 1,
        worker=bindparam("by"),
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
    return _returning_jobs(step)


@cache
def heartbeat_statement(*, moved: bool) -> Executable:
    """Write what prolongs a lease, and says how far the job is where it has moved; it returns what to stop for."""
    values: dict[str, Any] = {"lease_until": _seconds_from_now("lease_s")}
    if moved:
        # The stage starts where the row is in another one, or was further in it.
        starts = or_(
            COLUMNS.progress_stage.is_distinct_from(_PROGRESS["progress_stage"]),
            COLUMNS.progress_done > _PROGRESS["progress_done"],
        )
        values |= _PROGRESS | {
            "stage_started_at": case((starts, now()), else_=COLUMNS.stage_started_at),
            "stage_started_done": case((starts, _PROGRESS["progress_done"]), else_=COLUMNS.stage_started_done),
        }
    timed_out = (COLUMNS.deadline_at <= now()).label("timed_out")
    return update(_JOBS).where(*HELD_LEASE).values(**values).returning(COLUMNS.cancel_requested, timed_out)


@cache
def finish_statement(to: State, condition: Condition, *, moved: bool) -> ReturningUpdate[Any]:
    """Build the transition to a final state, with the progress if it changed; returns `TransitionedJob`."""
    step = transition_statement(
        to,
        *condition,
        result=bindparam("new_result"),
        error=bindparam("new_error"),
        finished_at=now(),
        lease_until=None,
        **(_PROGRESS if moved else {}),
    )
    return step.returning(*TRANSITIONED_COLUMNS)


@cache
def requeue_statement(condition: Condition) -> ReturningUpdate[Any]:
    """Write the step back to the queue; it returns what `TransitionedJob` is made of."""
    return transition_statement(State.QUEUED, *condition, **_NO_LEASE).returning(*TRANSITIONED_COLUMNS)


INSERT_JOB: Final = _returning_jobs(
    insert(_JOBS).values(created_at=now(), available_at=now(), deadline_at=_seconds_from_now("timeout_s"))
)
REQUEST_CANCEL: Final = (
    update(_JOBS)
    .where(COLUMNS.id == bindparam("running"), COLUMNS.state == State.RUNNING)
    .values(cancel_requested=True)
    .returning(*TRANSITIONED_COLUMNS)
)
"""Asks a running job's worker to stop; it returns what `TransitionedJob` is made of."""
INSERT_EVENTS: Final = insert(JobEvent.metadata.tables[JobEvent.__tablename__]).values(at=now())
