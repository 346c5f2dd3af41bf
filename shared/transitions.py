"""Every step of a job, one function each: a compare-and-set with its event, in one transaction.

A step is an UPDATE that names the states it may leave; where another process
was quicker it changes no row, and the function says so by ``None`` or ``False``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import ColumnElement, case, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared import queries
from shared.database import Database, now
from shared.errors import ConflictError, IdempotencyError
from shared.jobs import (
    CANCELLED,
    EDGES,
    ENDED,
    TIMED_OUT,
    WORKER_LOST,
    Beat,
    DeviceClass,
    Ending,
    EventKind,
    Kind,
    Lease,
    Progress,
    RetryDelay,
    State,
    StoredFile,
)
from shared.tables import Artifact, Job, JobEvent

SWEEP_BATCH: Final = 200
_PLAIN: Final = {"synchronize_session": False}


def submit(database: Database, job: Job, timeout_s: float) -> tuple[Job, bool]:
    """Write a new job as queued.

    Returns
    -------
    job, created
        The job, and whether this call made it; not, if its idempotency key had come with the same body before.

    Raises
    ------
    IdempotencyError
        The key had come with another body.
    """
    columns = {
        column.key: value for column in Job.__mapper__.column_attrs if (value := getattr(job, column.key)) is not None
    }
    moments = {"created_at": now(), "available_at": now(), "deadline_at": now(timeout_s)}
    try:
        with database.writing() as session:
            statement = insert(Job).values(**columns, **moments).returning(Job)
            written = session.scalars(statement).one()
            _record_states(session, [written])
            return written, True
    except IntegrityError:
        earlier = find_earlier(database, job.idempotency_key, job.request_sha256)
        if earlier is None:
            raise
        return earlier, False


def find_earlier(database: Database, idempotency_key: str | None, request_sha256: str) -> Job | None:
    """Return the job that an idempotency key made before.

    Raises
    ------
    IdempotencyError
        The key had come with another body.
    """
    if idempotency_key is None:
        return None
    with database.reading() as session:
        earlier = session.scalars(select(Job).where(Job.idempotency_key == idempotency_key)).one_or_none()
    if earlier is not None and earlier.request_sha256 != request_sha256:
        raise IdempotencyError(
            f"Idempotency-Key {idempotency_key!r} came before with another body; use a new key for a new request."
        )
    return earlier


def claim(  # noqa: PLR0913 - who claims what, and for how long
    database: Database,
    *,
    engines: Mapping[Kind, str],
    device: DeviceClass,
    worker: str,
    lease_s: float,
    job_id: str | None = None,
) -> Job | None:
    """Take the best queued job of some kinds: highest priority first, then the oldest; or the one that is named.

    Parameters
    ----------
    engines
        What runs each of the kinds.

    Returns
    -------
    The job, running under a lease of ``lease_s``; ``None`` where none waits.
    """
    heads = [
        queries.select_best(Job.id, kind, device).with_for_update(skip_locked=True).scalar_subquery()
        for kind in engines
    ]
    best = queries.order_by_turn(select(Job.id).where(Job.id.in_(heads)))
    with database.writing() as session:
        claimed = _move(
            session,
            State.RUNNING,
            Job.id == (best.scalar_subquery() if job_id is None else job_id),
            attempt=Job.attempt + 1,
            worker=worker,
            engine=case(dict(engines), value=Job.kind),
            device=device,
            started_at=now(),
            lease_until=now(lease_s),
            progress_stage=None,
            progress_done=0,
            progress_total=0,
            progress_unit=None,
            stage_started_at=None,
            stage_started_done=None,
        )
        return claimed[0] if claimed else None


def beat(database: Database, lease: Lease, progress: Progress | None, lease_s: float) -> Beat | None:
    """Prolong a lease, write the progress, and learn whether to stop, in one statement.

    Parameters
    ----------
    progress
        What is new since the last beat, or ``None``.

    Returns
    -------
    What the worker must know; ``None`` where the lease is no longer its own.
    """
    values = {"lease_until": now(lease_s)} | _list_progress(progress) | _list_stage_start(progress)
    statement = (
        update(Job)
        .where(*_hold(lease))
        .values(**values)
        .returning(Job.cancel_requested, (Job.deadline_at <= now()).label("timed_out"))
    )
    with database.writing() as session:
        row = session.execute(statement, execution_options=_PLAIN).one_or_none()
        if row is None:
            return None
        if progress is not None:
            _record(session, EventKind.PROGRESS, [(lease.job_id, asdict(progress))])
        return Beat(cancel_requested=row.cancel_requested, timed_out=bool(row.timed_out))


def finish(database: Database, lease: Lease, ending: Ending) -> bool:
    """End an attempt, unless the job is another attempt's by now.

    Returns
    -------
    Whether the ending counted.
    """
    with database.writing() as session:
        return bool(_end(session, ending, *_hold(lease)))


def cancel(database: Database, job_id: str) -> Job:
    """Cancel a queued job at once; ask a running one to stop.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has ended.
    """
    with database.writing() as session:
        cancelled = _end(session, CANCELLED, Job.id == job_id, Job.state == State.QUEUED)
        if cancelled:
            return cancelled[0]
        asked = session.scalars(
            update(Job)
            .where(Job.id == job_id, Job.state == State.RUNNING)
            .values(cancel_requested=True)
            .returning(Job),
            execution_options=_PLAIN,
        ).one_or_none()
        if asked is not None:
            _record_states(session, [asked])
            return asked
        ended = queries.get_job(session, job_id)
        raise ConflictError(f"Job {job_id} has {ended.state} and can no longer be cancelled.")


def release(database: Database, worker: str) -> list[Job]:
    """Queue again what a worker was running when it was told to go; the attempt counts, but never fails the job."""
    mine = (Job.worker == worker, Job.state == State.RUNNING)
    with database.writing() as session:
        cancelled = _end(session, CANCELLED, *mine, Job.cancel_requested.is_(True))
        return cancelled + _move(session, State.QUEUED, *mine, **_unleased())


def lose(database: Database, lease: Lease, delay: RetryDelay) -> bool:
    """Give up an attempt that its worker knows to be dead."""
    with database.writing() as session:
        return bool(_lose(session, list(session.scalars(select(Job).where(*_hold(lease)))), delay))


def lose_expired(database: Database, delay: RetryDelay) -> list[Job]:
    """Take the jobs whose lease has run out away from their workers: queued again, or failed after the last attempt."""
    with database.writing() as session:
        expired = session.scalars(
            select(Job)
            .where(Job.state == State.RUNNING, Job.lease_until < now())
            .limit(SWEEP_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        return _lose(session, expired, delay)


def time_out(database: Database) -> list[Job]:
    """Fail the queued jobs whose deadline has passed; a running one is stopped by its worker's beat."""
    late = (
        select(Job.id)
        .where(Job.state == State.QUEUED, Job.deadline_at < now())
        .limit(SWEEP_BATCH)
        .with_for_update(skip_locked=True)
    )
    with database.writing() as session:
        return _end(session, TIMED_OUT, Job.id.in_(late.scalar_subquery()), Job.state == State.QUEUED)


def remove(database: Database, job_id: str) -> None:
    """Forget an ended job; its files are the caller's to remove.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has not ended.
    """
    with database.writing() as session:
        statement = delete(Job).where(Job.id == job_id, Job.state.in_(ENDED)).returning(Job.id)
        if session.execute(statement, execution_options=_PLAIN).one_or_none() is None:
            job = queries.get_job(session, job_id)
            raise ConflictError(f"Job {job_id} is {job.state}; cancel it before you delete it.")


def _hold(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (Job.id == lease.job_id, Job.attempt == lease.attempt, Job.state == State.RUNNING)


def _move(session: Session, to: State, *condition: ColumnElement[bool], **values: Any) -> list[Job]:  # noqa: ANN401 - columns of any type
    """Take one edge of the state machine, for each row that meets the condition."""
    sources = [state for state, targets in EDGES.items() if to in targets]
    statement = update(Job).where(Job.state.in_(sources), *condition).values(state=to, **values).returning(Job)
    moved = list(session.scalars(statement, execution_options=_PLAIN | {"populate_existing": True}))
    _record_states(session, moved)
    return moved


def _end(session: Session, ending: Ending, *condition: ColumnElement[bool]) -> list[Job]:
    """Move to an end state with everything that belongs to it."""
    ended = _move(
        session,
        ending.state,
        *condition,
        result=ending.result,
        error=ending.error,
        finished_at=now(),
        lease_until=None,
        **_list_progress(ending.progress),
    )
    for job in ended:
        if ending.files:
            session.execute(insert(Artifact), [{"job_id": job.id} | asdict(file) for file in ending.files])
            _record(session, EventKind.ARTIFACT, [(job.id, _describe(file)) for file in ending.files])
    return ended


def _lose(session: Session, jobs: Iterable[Job], delay: RetryDelay) -> list[Job]:
    lost: list[Job] = []
    for job in jobs:
        hold = _hold(Lease(job.id, job.attempt))
        if job.cancel_requested:
            lost += _end(session, CANCELLED, *hold)
        elif job.attempt >= job.max_attempts:
            lost += _end(session, WORKER_LOST, *hold)
        else:
            pause_s = delay.after(job.attempt)
            lost += _move(session, State.QUEUED, *hold, **_unleased(pause_s))
    return lost


def _unleased(pause_s: float = 0.0) -> dict[str, Any]:
    """Return the columns of a job that goes back to the queue."""
    return {"lease_until": None, "worker": None, "started_at": None, "available_at": now(pause_s)}


def _list_progress(progress: Progress | None) -> dict[str, Any]:
    """Return the columns of a progress; none where there is none."""
    return {f"progress_{name}": value for name, value in asdict(progress).items()} if progress else {}


def _list_stage_start(progress: Progress | None) -> dict[str, Any]:
    """Return the columns of a stage's start, which change where the row is in another stage, or was further in it."""
    if progress is None:
        return {}
    starts = or_(Job.progress_stage.is_distinct_from(progress.stage), Job.progress_done > progress.done)
    return {
        "stage_started_at": case((starts, now()), else_=Job.stage_started_at),
        "stage_started_done": case((starts, progress.done), else_=Job.stage_started_done),
    }


def _describe(file: StoredFile) -> dict[str, Any]:
    return {"name": file.name, "media_type": file.media_type, "bytes": file.bytes, "sha256": file.sha256}


def _record_states(session: Session, jobs: Iterable[Job]) -> None:
    _record(
        session,
        EventKind.STATE,
        [
            (
                job.id,
                {
                    "state": job.state,
                    "attempt": job.attempt,
                    "worker": job.worker,
                    "cancel_requested": job.cancel_requested,
                    "error": job.error,
                },
            )
            for job in jobs
        ],
    )


def _record(session: Session, kind: EventKind, events: list[tuple[str, dict[str, Any]]]) -> None:
    if events:
        session.execute(
            insert(JobEvent).values(
                [{"job_id": job_id, "at": now(), "kind": kind, "data": data} for job_id, data in events]
            )
        )
