"""Every step of a job, one function each: a compare-and-set with its event, in one transaction.

A step is an UPDATE that names the states it may leave; where another process
was quicker it changes no row, and the function says so by ``None`` or ``False``.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from shared.database import queries, statements
from shared.database.connection import Database, now
from shared.database.tables import Artifact, Job, JobLabel
from shared.errors import ConflictError, IdempotencyError
from shared.jobs import (
    CANCELLED,
    ENDED,
    TIMED_OUT,
    WORKER_LOST,
    Beat,
    Claimant,
    Ending,
    EventKind,
    Lease,
    Moved,
    Progress,
    RetryDelay,
    State,
    StoredFile,
)
from shared.webhooks import messages

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
    try:
        with database.writing() as session:
            written = session.scalars(statements.SUBMIT, columns | {"timeout_s": timeout_s}).one()
            if written.labels:
                whose = {"job_id": written.id, "owner": written.owner}
                labels = [whose | {"name": name, "value": value} for name, value in written.labels.items()]
                session.execute(insert(JobLabel), labels)
            _tell(session, [written])
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


def claim(database: Database, claimant: Claimant, job_id: str | None = None) -> Job | None:
    """Take the best queued job of some kinds: highest priority first, then the oldest; or the one that is named.

    Returns
    -------
    The job, running under a lease; ``None`` where none waits.
    """
    with database.writing() as session:
        return _claim(session, claimant, job_id)


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
    statement = statements.write_beat(moved=progress is not None)
    with database.writing() as session:
        row = session.execute(statement, _hold(lease) | _bind(progress) | {"lease_s": lease_s}).one_or_none()
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
        return bool(_end(session, ending, statements.HELD, _hold(lease)))


def finish_and_claim(database: Database, lease: Lease, ending: Ending, claimant: Claimant) -> tuple[bool, Job | None]:
    """Do both in one transaction, which a database has to sync but once.

    Returns
    -------
    counted, claimed
        As `finish` and `claim` return them.
    """
    with database.writing() as session:
        return bool(_end(session, ending, statements.HELD, _hold(lease))), _claim(session, claimant)


def cancel(database: Database, job_id: str) -> Moved:
    """Cancel a queued job at once; ask a running one to stop.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has ended.
    """
    with database.writing() as session:
        cancelled = _end(session, CANCELLED, statements.WAITING, {"waiting": job_id})
        if cancelled:
            return cancelled[0]
        asked = _move(session, statements.ASK_TO_STOP, running=job_id)
        if asked:
            _record_states(session, asked)
            return asked[0]
        ended = queries.get_job(session, job_id)
        raise ConflictError(f"Job {job_id} has {ended.state} and can no longer be cancelled.")


def release(database: Database, worker: str) -> list[Moved]:
    """Queue again what a worker was running when it was told to go; the attempt counts, but never fails the job."""
    with database.writing() as session:
        cancelled = _end(session, CANCELLED, statements.TO_CANCEL, {"by": worker})
        return cancelled + _return(session, statements.RUNNING, by=worker, pause_s=0.0)


def lose(database: Database, lease: Lease, delay: RetryDelay) -> bool:
    """Give up an attempt that its worker knows to be dead."""
    with database.writing() as session:
        return bool(_lose(session, list(session.scalars(select(Job).where(*statements.HELD), _hold(lease))), delay))


def lose_expired(database: Database, delay: RetryDelay) -> list[Moved]:
    """Take the jobs whose lease has run out away from their workers: queued again, or failed after the last attempt."""
    with database.writing() as session:
        expired = session.scalars(
            select(Job)
            .where(Job.state == State.RUNNING, Job.lease_until < now())
            .limit(statements.SWEEP_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        return _lose(session, expired, delay)


def time_out(database: Database) -> list[Moved]:
    """Fail the queued jobs whose deadline has passed; a running one is stopped by its worker's beat."""
    with database.writing() as session:
        return _end(session, TIMED_OUT, statements.LATE, {})


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


def _claim(session: Session, claimant: Claimant, job_id: str | None = None) -> Job | None:
    named = {} if job_id is None else {"named": job_id}
    step = statements.write_claim(tuple(claimant.engines.items()), claimant.device, named=bool(named))
    job = session.scalars(step, {"by": claimant.worker, "lease_s": claimant.lease_s} | named).one_or_none()
    if job is not None:
        _tell(session, [job])
    return job


def _hold(lease: Lease) -> dict[str, Any]:
    return {"held": lease.job_id, "held_attempt": lease.attempt}


def _bind(progress: Progress | None) -> dict[str, Any]:
    """Return the parameters of a progress; none where there is none."""
    return {f"new_{name}": value for name, value in asdict(progress).items()} if progress else {}


def _move(session: Session, step: ReturningUpdate[Any], **bound: Any) -> list[Moved]:  # noqa: ANN401 - columns of any type
    """Take a step, of which is still to be told."""
    return [Moved(*row) for row in session.execute(step, bound)]


def _return(session: Session, condition: statements.Condition, **bound: Any) -> list[Moved]:  # noqa: ANN401 - as above
    """Move back to the queue."""
    returned = _move(session, statements.write_return(condition), **bound)
    _tell(session, returned)
    return returned


def _end(session: Session, ending: Ending, condition: statements.Condition, bound: dict[str, Any]) -> list[Moved]:
    """Move to an end state with everything that belongs to it."""
    step = statements.write_ending(ending.state, condition, moved=ending.progress is not None)
    values = {"new_result": ending.result, "new_error": ending.error} | _bind(ending.progress)
    ended = _move(session, step, **bound, **values)
    for job in ended:
        if ending.files:
            session.execute(insert(Artifact), [{"job_id": job.id} | asdict(file) for file in ending.files])
            _record(session, EventKind.ARTIFACT, [(job.id, _describe(file)) for file in ending.files])
    _tell(session, ended)  # last, since whoever follows the job goes when it has ended
    return ended


def _lose(session: Session, jobs: Iterable[Job], delay: RetryDelay) -> list[Moved]:
    lost: list[Moved] = []
    for job in jobs:
        hold = _hold(Lease(job.id, job.attempt))
        if job.cancel_requested:
            lost += _end(session, CANCELLED, statements.HELD, hold)
        elif job.attempt >= job.max_attempts:
            lost += _end(session, WORKER_LOST, statements.HELD, hold)
        else:
            lost += _return(session, statements.HELD, **hold, pause_s=delay.after(job.attempt))
    return lost


def _describe(file: StoredFile) -> dict[str, Any]:
    return {"name": file.name, "media_type": file.media_type, "bytes": file.bytes, "sha256": file.sha256}


def _tell(session: Session, moved: Iterable[Job | Moved]) -> None:
    """Tell that jobs have come to another state: their events, and their webhooks."""
    _record_states(session, moved)
    messages.queue_messages(session, moved)


def _record_states(session: Session, jobs: Iterable[Job | Moved]) -> None:
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
        session.execute(statements.RECORD, [{"job_id": job_id, "kind": kind, "data": data} for job_id, data in events])
