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
    EventKind,
    HeartbeatReply,
    Lease,
    Outcome,
    Progress,
    RetryDelay,
    State,
    StoredFile,
    TransitionedJob,
    WorkerIdentity,
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
            written = session.scalars(statements.INSERT_JOB, columns | {"timeout_s": timeout_s}).one()
            if written.labels:
                whose = {"job_id": written.id, "owner": written.owner}
                labels = [whose | {"name": name, "value": value} for name, value in written.labels.items()]
                session.execute(insert(JobLabel), labels)
            _publish(session, [written])
            return written, True
    except IntegrityError:
        earlier = find_by_idempotency_key(database, job.idempotency_key, job.request_sha256)
        if earlier is None:
            raise
        return earlier, False


def find_by_idempotency_key(database: Database, idempotency_key: str | None, request_sha256: str) -> Job | None:
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


def claim(database: Database, claimant: WorkerIdentity, job_id: str | None = None) -> Job | None:
    """Take the best queued job of some kinds: highest priority first, then the oldest; or the one that is named.

    Returns
    -------
    The job, running under a lease; ``None`` where none waits.
    """
    with database.writing() as session:
        return _claim(session, claimant, job_id)


def heartbeat(database: Database, lease: Lease, progress: Progress | None, lease_s: float) -> HeartbeatReply | None:
    """Prolong a lease, write the progress, and learn whether to stop, in one statement.

    Parameters
    ----------
    progress
        What is new since the last beat, or ``None``.

    Returns
    -------
    What the worker must know; ``None`` where the lease is no longer its own.
    """
    statement = statements.heartbeat_statement(moved=progress is not None)
    with database.writing() as session:
        row = session.execute(
            statement, _lease_parameters(lease) | _progress_parameters(progress) | {"lease_s": lease_s}
        ).one_or_none()
        if row is None:
            return None
        if progress is not None:
            _insert_events(session, EventKind.PROGRESS, [(lease.job_id, asdict(progress))])
        return HeartbeatReply(cancel_requested=row.cancel_requested, timed_out=bool(row.timed_out))


def finish(database: Database, lease: Lease, ending: Outcome) -> bool:
    """End an attempt, unless the job is another attempt's by now.

    Returns
    -------
    Whether the ending counted.
    """
    with database.writing() as session:
        return bool(_finish(session, ending, statements.HELD_LEASE, _lease_parameters(lease)))


def finish_and_claim(
    database: Database, lease: Lease, ending: Outcome, claimant: WorkerIdentity
) -> tuple[bool, Job | None]:
    """Do both in one transaction, which a database has to sync but once.

    Returns
    -------
    counted, claimed
        As `finish` and `claim` return them.
    """
    with database.writing() as session:
        return bool(_finish(session, ending, statements.HELD_LEASE, _lease_parameters(lease))), _claim(
            session, claimant
        )


def cancel(database: Database, job_id: str) -> TransitionedJob:
    """Cancel a queued job at once; ask a running one to stop.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has ended.
    """
    with database.writing() as session:
        cancelled = _finish(session, CANCELLED, statements.QUEUED_JOB, {"waiting": job_id})
        if cancelled:
            return cancelled[0]
        asked = _execute(session, statements.REQUEST_CANCEL, running=job_id)
        if asked:
            _insert_state_events(session, asked)
            return asked[0]
        ended = queries.get_job(session, job_id)
        raise ConflictError(f"Job {job_id} has {ended.state} and can no longer be cancelled.")


def requeue_jobs_of(database: Database, worker: str) -> list[TransitionedJob]:
    """Queue again what a worker was running when it was told to go; the attempt counts, but never fails the job."""
    with database.writing() as session:
        cancelled = _finish(session, CANCELLED, statements.TO_CANCEL_ON_WORKER, {"by": worker})
        return cancelled + _requeue(session, statements.RUNNING_ON_WORKER, by=worker, pause_s=0.0)


def recover_lost(database: Database, lease: Lease, delay: RetryDelay) -> bool:
    """Give up an attempt that its worker knows to be dead."""
    with database.writing() as session:
        return bool(
            _recover(
                session,
                list(session.scalars(select(Job).where(*statements.HELD_LEASE), _lease_parameters(lease))),
                delay,
            )
        )


def recover_expired(database: Database, delay: RetryDelay) -> list[TransitionedJob]:
    """Take the jobs whose lease has run out away from their workers: queued again, or failed after the last attempt."""
    with database.writing() as session:
        expired = session.scalars(
            select(Job)
            .where(Job.state == State.RUNNING, Job.lease_until < now())
            .limit(statements.SWEEP_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        return _recover(session, expired, delay)


def expire_queued(database: Database) -> list[TransitionedJob]:
    """Fail the queued jobs whose deadline has passed; a running one is stopped by its worker's beat."""
    with database.writing() as session:
        return _finish(session, TIMED_OUT, statements.PAST_DEADLINE, {})


def delete_job(database: Database, job_id: str) -> None:
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


def _claim(session: Session, claimant: WorkerIdentity, job_id: str | None = None) -> Job | None:
    named = {} if job_id is None else {"named": job_id}
    step = statements.claim_statement(tuple(claimant.engines.items()), claimant.device, named=bool(named))
    job = session.scalars(step, {"by": claimant.worker, "lease_s": claimant.lease_s} | named).one_or_none()
    if job is not None:
        _publish(session, [job])
    return job


def _lease_parameters(lease: Lease) -> dict[str, Any]:
    return {"held": lease.job_id, "held_attempt": lease.attempt}


def _progress_parameters(progress: Progress | None) -> dict[str, Any]:
    """Return the parameters of a progress; none where there is none."""
    return {f"new_{name}": value for name, value in asdict(progress).items()} if progress else {}


def _execute(session: Session, step: ReturningUpdate[Any], **bound: Any) -> list[TransitionedJob]:  # noqa: ANN401 - columns of any type
    """Take a step, of which is still to be told."""
    return [TransitionedJob(*row) for row in session.execute(step, bound)]


def _requeue(session: Session, condition: statements.Condition, **bound: Any) -> list[TransitionedJob]:  # noqa: ANN401 - as above
    """Move back to the queue."""
    returned = _execute(session, statements.requeue_statement(condition), **bound)
    _publish(session, returned)
    return returned


def _finish(
    session: Session, ending: Outcome, condition: statements.Condition, bound: dict[str, Any]
) -> list[TransitionedJob]:
    """Move to an end state with everything that belongs to it."""
    step = statements.finish_statement(ending.state, condition, moved=ending.progress is not None)
    values = {"new_result": ending.result, "new_error": ending.error} | _progress_parameters(ending.progress)
    ended = _execute(session, step, **bound, **values)
    for job in ended:
        if ending.files:
            session.execute(insert(Artifact), [{"job_id": job.id} | asdict(file) for file in ending.files])
            _insert_events(session, EventKind.ARTIFACT, [(job.id, _serialize_file(file)) for file in ending.files])
    _publish(session, ended)  # last, since whoever follows the job goes when it has ended
    return ended


def _recover(session: Session, jobs: Iterable[Job], delay: RetryDelay) -> list[TransitionedJob]:
    lost: list[TransitionedJob] = []
    for job in jobs:
        hold = _lease_parameters(Lease(job.id, job.attempt))
        if job.cancel_requested:
            lost += _finish(session, CANCELLED, statements.HELD_LEASE, hold)
        elif job.attempt >= job.max_attempts:
            lost += _finish(session, WORKER_LOST, statements.HELD_LEASE, hold)
        else:
            lost += _requeue(session, statements.HELD_LEASE, **hold, pause_s=delay.after(job.attempt))
    return lost


def _serialize_file(file: StoredFile) -> dict[str, Any]:
    return {"name": file.name, "media_type": file.media_type, "bytes": file.bytes, "sha256": file.sha256}


def _publish(session: Session, moved: Iterable[Job | TransitionedJob]) -> None:
    """Tell that jobs have come to another state: their events, and their webhooks."""
    _insert_state_events(session, moved)
    messages.queue_messages(session, moved)


def _insert_state_events(session: Session, jobs: Iterable[Job | TransitionedJob]) -> None:
    _insert_events(
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


def _insert_events(session: Session, kind: EventKind, events: list[tuple[str, dict[str, Any]]]) -> None:
    if events:
        session.execute(
            statements.INSERT_EVENTS, [{"job_id": job_id, "kind": kind, "data": data} for job_id, data in events]
        )
