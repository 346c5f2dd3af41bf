"""Every transition of a job, one function each: a compare-and-set and what it publishes, in one transaction.

A transition is an UPDATE that names the states it may start from. If another process was quicker, it changes no row,
and the function returns ``None`` or ``False``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from shared.database import outbox, queries, statements
from shared.database.connection import Database, now
from shared.database.tables import Job, JobLabel
from shared.errors import ConflictError, IdempotencyError
from shared.jobs import (
    CANCELLED,
    ENDED,
    TIMED_OUT,
    WORKER_LOST,
    HeartbeatReply,
    Lease,
    Outcome,
    Progress,
    State,
    StoredFile,
    TransitionedJob,
    WorkerIdentity,
)
from shared.retry_delay import RetryDelay
from shared.texts import text

_WITHOUT_OBJECTS: Final = {"synchronize_session": False}
"""Tells SQLAlchemy that the session holds no objects that a statement could change."""


def submit(database: Database, job: Job, timeout_s: float) -> tuple[Job, bool]:
    """Insert a new job as queued.

    Returns
    -------
    job, created
        The job, and whether this call created it: an earlier request may have had the same idempotency key and body.

    Raises
    ------
    IdempotencyError
        An earlier request had the same idempotency key and another body.
    """
    columns = {
        column.key: value for column in Job.__mapper__.column_attrs if (value := getattr(job, column.key)) is not None
    }
    try:
        with database.writing() as session:
            created = session.scalars(statements.INSERT_JOB, columns | {"timeout_s": timeout_s}).one()
            if created.labels:
                job_columns = {"job_id": created.id, "owner": created.owner}
                labels = [job_columns | {"name": name, "value": value} for name, value in created.labels.items()]
                session.execute(insert(JobLabel), labels)
            outbox.publish_states(session, [created])
            return created, True
    except IntegrityError:
        earlier = find_by_idempotency_key(database, job.idempotency_key, job.request_sha256)
        if earlier is None:
            raise
        return earlier, False


def find_by_idempotency_key(database: Database, idempotency_key: str | None, request_sha256: str) -> Job | None:
    """Return the job that an earlier request with the same idempotency key created.

    Raises
    ------
    IdempotencyError
        That request had another body.
    """
    if idempotency_key is None:
        return None
    with database.reading() as session:
        earlier = session.scalars(select(Job).where(Job.idempotency_key == idempotency_key)).one_or_none()
    if earlier is not None and earlier.request_sha256 != request_sha256:
        raise IdempotencyError(text("idempotency-key-reused", key=idempotency_key))
    return earlier


def claim(database: Database, worker: WorkerIdentity, job_id: str | None = None) -> Job | None:
    """Claim the best queued job that a worker can run (highest priority first, then the oldest), or a certain one.

    Returns
    -------
    The job, running under a lease; ``None`` if there is none.
    """
    with database.writing() as session:
        return _claim(session, worker, job_id)


def heartbeat(
    database: Database, lease: Lease, progress: Progress | None, lease_s: float, files: Sequence[StoredFile] = ()
) -> HeartbeatReply | None:
    """Extend a lease, write the progress, record artifacts, and learn whether to stop.

    Parameters
    ----------
    progress
        The progress, if it has changed since the last heartbeat.
    files
        Artifacts of this attempt that are durable and not recorded yet. Each replaces what an earlier attempt recorded
        under its name.

    Returns
    -------
    What the worker must know; ``None`` if it no longer holds the lease, and then nothing is recorded.
    """
    statement = statements.heartbeat_statement(with_progress=progress is not None)
    parameters = _lease_parameters(lease) | _progress_parameters(progress) | {"lease_s": lease_s}
    with database.writing() as session:
        row = session.execute(statement, parameters).one_or_none()
        if row is None:
            return None
        if progress is not None:
            outbox.publish_progress(session, lease.job_id, progress)
        if files:
            replaced = [{"replaced_job_id": lease.job_id, "replaced_name": file.name} for file in files]
            session.execute(statements.DELETE_NAMED_ARTIFACTS, replaced)
            _insert_artifacts(session, lease.job_id, files)
        return HeartbeatReply(cancel_requested=row.cancel_requested, timed_out=bool(row.timed_out))


def finish(database: Database, lease: Lease, outcome: Outcome) -> bool:
    """End an attempt, if it still holds its lease.

    The files of a successful outcome are the job's artifacts from then on; other outcomes leave none.

    Returns
    -------
    Whether it did.
    """
    with database.writing() as session:
        return bool(_finish(session, outcome, statements.HELD_LEASE, _lease_parameters(lease)))


def finish_and_claim(
    database: Database, lease: Lease, outcome: Outcome, worker: WorkerIdentity
) -> tuple[bool, Job | None]:
    """Do both in one transaction, which the database syncs only once.

    Returns
    -------
    finished, claimed
        What `finish` and `claim` return.
    """
    with database.writing() as session:
        finished = _finish(session, outcome, statements.HELD_LEASE, _lease_parameters(lease))
        return bool(finished), _claim(session, worker)


def cancel(database: Database, job_id: str) -> TransitionedJob:
    """Cancel a queued job at once; ask the worker of a running one to stop.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has ended.
    """
    with database.writing() as session:
        cancelled = _finish(session, CANCELLED, statements.QUEUED_JOB, {"queued_job_id": job_id})
        if cancelled:
            return cancelled[0]
        requested = _execute(session, statements.REQUEST_CANCEL, {"running_job_id": job_id})
        if requested:
            outbox.publish_changes(session, requested)
            return requested[0]
        ended = queries.get_job(session, job_id)
        raise ConflictError(text("cancel-ended-job", job=job_id, state=ended.state))


def requeue_jobs_of(database: Database, worker: str) -> list[TransitionedJob]:
    """Queue the jobs again that a worker runs which has to stop; their attempt counts, but fails none of them."""
    with database.writing() as session:
        cancelled = _finish(session, CANCELLED, statements.TO_CANCEL_ON_WORKER, {"worker_name": worker})
        requeued = _requeue(session, statements.RUNNING_ON_WORKER, {"worker_name": worker, "delay_s": 0.0})
        return cancelled + requeued


def recover_lost(database: Database, lease: Lease, delay: RetryDelay) -> bool:
    """End an attempt whose worker knows that it is lost; the job is queued again, or fails after its last attempt.

    Returns
    -------
    Whether the attempt still held its lease.
    """
    with database.writing() as session:
        held = session.scalars(select(Job).where(*statements.HELD_LEASE), _lease_parameters(lease)).all()
        return bool(_recover(session, held, delay))


def recover_expired(database: Database, delay: RetryDelay) -> list[TransitionedJob]:
    """End the attempts whose lease has expired; their jobs are queued again, or fail after the last attempt."""
    with database.writing() as session:
        expired = session.scalars(
            select(Job)
            .where(Job.state == State.RUNNING, Job.lease_until < now())
            .limit(statements.SWEEP_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        return _recover(session, expired, delay)


def expire_queued(database: Database) -> list[TransitionedJob]:
    """Fail the queued jobs whose deadline has passed; a running one is stopped by the heartbeat of its worker."""
    with database.writing() as session:
        return _finish(session, TIMED_OUT, statements.PAST_DEADLINE, {})


def delete_job(database: Database, job_id: str) -> None:
    """Delete an ended job and all that refers to it; its files are left to the caller.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has not ended.
    """
    with database.writing() as session:
        statement = delete(Job).where(Job.id == job_id, Job.state.in_(ENDED)).returning(Job.id)
        if session.execute(statement, execution_options=_WITHOUT_OBJECTS).one_or_none() is None:
            job = queries.get_job(session, job_id)
            raise ConflictError(text("delete-unended-job", job=job_id, state=job.state))


def _claim(session: Session, worker: WorkerIdentity, job_id: str | None = None) -> Job | None:
    statement = statements.claim_statement(tuple(worker.engines.items()), worker.device, by_id=job_id is not None)
    parameters = {"worker_name": worker.worker, "lease_s": worker.lease_s}
    if job_id is not None:
        parameters["claimed_job_id"] = job_id
    job = session.scalars(statement, parameters).one_or_none()
    if job is not None:
        outbox.publish_states(session, [job])
    return job


def _lease_parameters(lease: Lease) -> dict[str, Any]:
    return {"lease_job_id": lease.job_id, "lease_attempt": lease.attempt}


def _progress_parameters(progress: Progress | None) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in asdict(progress).items()} if progress else {}


def _execute(session: Session, statement: ReturningUpdate[Any], parameters: Mapping[str, Any]) -> list[TransitionedJob]:
    """Execute a transition, and leave publishing it to the caller."""
    return [TransitionedJob(*row) for row in session.execute(statement, parameters)]


def _requeue(session: Session, condition: statements.Condition, parameters: Mapping[str, Any]) -> list[TransitionedJob]:
    """Move jobs back to the queue."""
    requeued = _execute(session, statements.requeue_statement(condition), parameters)
    outbox.publish_states(session, requeued)
    return requeued


def _finish(
    session: Session, outcome: Outcome, condition: statements.Condition, parameters: Mapping[str, Any]
) -> list[TransitionedJob]:
    """Move jobs to a final state, with everything that belongs to it."""
    statement = statements.finish_statement(outcome.state, condition, with_progress=outcome.progress is not None)
    values = {"new_result": outcome.result, "new_error": outcome.error} | _progress_parameters(outcome.progress)
    files = outcome.files if outcome.state == State.SUCCEEDED else ()
    ended: list[TransitionedJob] = []
    for *columns, has_artifacts in session.execute(statement, {**parameters, **values}).all():
        job = TransitionedJob(*columns)
        ended.append(job)
        if has_artifacts:
            session.execute(statements.DELETE_ARTIFACTS, {"ended_job_id": job.id})
        if files:
            _insert_artifacts(session, job.id, files)
            outbox.publish_artifacts(session, job.id, files)
    outbox.publish_states(session, ended)  # last, since clients stop following a job that has ended
    return ended


def _insert_artifacts(session: Session, job_id: str, files: Iterable[StoredFile]) -> None:
    session.execute(statements.INSERT_ARTIFACTS, [{"job_id": job_id} | asdict(file) for file in files])


def _recover(session: Session, jobs: Iterable[Job], delay: RetryDelay) -> list[TransitionedJob]:
    """Move lost jobs to where they belong: cancelled if a client asked for it, queued again, or failed."""
    recovered: list[TransitionedJob] = []
    for job in jobs:
        lease = _lease_parameters(Lease(job.id, job.attempt))
        if job.cancel_requested:
            recovered += _finish(session, CANCELLED, statements.HELD_LEASE, lease)
        elif job.attempt >= job.max_attempts:
            recovered += _finish(session, WORKER_LOST, statements.HELD_LEASE, lease)
        else:
            delay_s = delay.after(job.attempt)
            recovered += _requeue(session, statements.HELD_LEASE, lease | {"delay_s": delay_s})
    return recovered
