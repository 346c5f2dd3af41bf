"""Every transition of a job, one function for each.

A function changes the row and publishes the change in one transaction. A transition is an UPDATE that names the states
from which it may start. If another process has changed the state first, the UPDATE changes no row. Then the function
returns ``None``, ``False`` or an empty list, or raises `ConflictError`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from shared.database import outbox, queries, statements, uploads
from shared.database.connection import Database, now
from shared.database.tables import Job, JobLabel
from shared.errors import ConflictError, IdempotencyError
from shared.jobs import (
    CANCELLED,
    ENDED,
    TIMED_OUT,
    WORKER_LOST,
    DeviceClass,
    HeartbeatReply,
    Lease,
    Need,
    Outcome,
    Progress,
    State,
    StoredFile,
    TransitionedJob,
    WorkerIdentity,
)
from shared.retry_delay import RetryDelay
from shared.texts import text

NO_UPLOADS: Final[Mapping[str, str]] = {}
_CANCEL_REFUSALS: Final[Mapping[str, str]] = {
    State.SUCCEEDED: "cancel-succeeded-job",
    State.FAILED: "cancel-failed-job",
    State.CANCELLED: "cancel-cancelled-job",
}
_WITHOUT_OBJECTS: Final = {"synchronize_session": False}
"""An execution option: SQLAlchemy need not update objects, since the session holds no objects of the changed rows."""


def submit(
    database: Database, job: Job, timeout_s: float, upload_ids: Mapping[str, str] = NO_UPLOADS
) -> tuple[Job, bool]:
    """Insert a new job as queued.

    Parameters
    ----------
    upload_ids
        The ids of the uploads in the parameters, keyed by the JSON pointer of the parameter.

    Returns
    -------
    job, created
        The job, and whether this call created it. If ``created`` is false, an earlier request with the same idempotency
        key and body created the job.

    Raises
    ------
    IdempotencyError
        An earlier request had the same idempotency key and another body.
    RequestInvalidError
        An upload no longer exists.
    """
    columns = {
        column.key: value for column in Job.__mapper__.column_attrs if (value := getattr(job, column.key)) is not None
    }
    try:
        with database.writing() as session:
            uploads.lock_uploads(session, upload_ids)
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
    """Return the job that an earlier request with the same idempotency key created, or ``None``.

    Raises
    ------
    IdempotencyError
        The earlier request had another body.
    """
    if idempotency_key is None:
        return None
    with database.reading() as session:
        earlier = session.scalars(select(Job).where(Job.idempotency_key == idempotency_key)).one_or_none()
    if earlier is not None and earlier.request_sha256 != request_sha256:
        raise IdempotencyError(text("idempotency-key-reused"))
    return earlier


def claim(database: Database, worker: WorkerIdentity, job_id: str | None = None) -> Job | None:
    """Claim the best queued job that a worker can run: the oldest job with the highest priority.

    Parameters
    ----------
    job_id
        If given, claim the queued job with this id instead.

    Returns
    -------
    The claimed job, now running under a lease; ``None`` if no such job is queued.
    """
    with database.writing() as session:
        return _claim(session, worker, job_id)


def heartbeat(
    database: Database, lease: Lease, progress: Progress | None, lease_s: float, files: Sequence[StoredFile] = ()
) -> HeartbeatReply | None:
    """Extend a lease, write the progress, record artifacts, and read whether the attempt must stop.

    Parameters
    ----------
    progress
        The progress; ``None`` if the progress has not changed since the last heartbeat.
    files
        Artifacts of this attempt that are durable and not recorded yet. Each artifact replaces the artifact of the same
        name that an earlier attempt recorded.

    Returns
    -------
    Whether the attempt must stop, and why. ``None`` if the attempt no longer holds the lease; nothing is recorded then.
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

    If the outcome is a success, its files become the artifacts of the job. After any other outcome, the job has no
    artifacts.

    Returns
    -------
    Whether the attempt still held its lease.
    """
    with database.writing() as session:
        return bool(_finish(session, outcome, statements.HELD_LEASE, _lease_parameters(lease)))


def finish_and_claim(
    database: Database, lease: Lease, outcome: Outcome, worker: WorkerIdentity, job_id: str | None = None
) -> tuple[bool, Job | None]:
    """End an attempt and claim the next job in one transaction, so that the database syncs only once.

    Parameters
    ----------
    job_id
        If given, claim the queued job with this id.

    Returns
    -------
    finished, claimed
        ``finished``: whether the attempt still held its lease. ``claimed``: the next job, or ``None`` if no job could
        be claimed.
    """
    with database.writing() as session:
        finished = _finish(session, outcome, statements.HELD_LEASE, _lease_parameters(lease))
        return bool(finished), _claim(session, worker, job_id)


def cancel(database: Database, job_id: str) -> TransitionedJob:
    """Cancel a queued job at once, or request that the worker of a running job stops the job.

    Raises
    ------
    NotFoundError
        There is no such job.
    ConflictError
        The job has ended.
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
        raise ConflictError(text(_CANCEL_REFUSALS[ended.state], job=job_id))


def requeue_jobs_of(database: Database, worker: str) -> list[TransitionedJob]:
    """Queue all running jobs of a worker again, because the worker must stop.

    The interrupted attempt counts as one of the job's attempts, but the job does not fail, even if this was its last
    attempt. A job whose cancellation is requested is cancelled instead.
    """
    with database.writing() as session:
        cancelled = _finish(session, CANCELLED, statements.TO_CANCEL_ON_WORKER, {"worker_name": worker})
        requeued = _requeue(session, statements.RUNNING_ON_WORKER, {"worker_name": worker, "delay_s": 0.0})
        return cancelled + requeued


def recover_lost(database: Database, lease: Lease, delay: RetryDelay) -> bool:
    """End an attempt that its own worker gives up; the job is queued again, or fails after its last attempt.

    Returns
    -------
    Whether the attempt still held its lease.
    """
    with database.writing() as session:
        held = session.scalars(select(Job).where(*statements.HELD_LEASE), _lease_parameters(lease)).all()
        return bool(_recover(session, held, delay))


def recover_expired(database: Database, delay: RetryDelay) -> list[TransitionedJob]:
    """End the attempts whose lease has expired; each job is queued again, or fails after its last attempt."""
    with database.writing() as session:
        expired = session.scalars(
            select(Job)
            .where(Job.state == State.RUNNING, Job.lease_until < now())
            .limit(statements.SWEEP_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        return _recover(session, expired, delay)


def expire_queued(database: Database) -> list[TransitionedJob]:
    """Fail the queued jobs whose deadline has passed.

    A running job whose deadline has passed is stopped by its worker, which learns this from the reply to its heartbeat.
    """
    with database.writing() as session:
        return _finish(session, TIMED_OUT, statements.PAST_DEADLINE, {})


def show_download(
    database: Database, need: Need, device: DeviceClass, progress: Progress, *, changed: bool = True
) -> bool:
    """Write the progress of a download to the queued jobs that wait for it on a device class.

    Parameters
    ----------
    changed
        Whether the progress has changed since the last call, so that it is published.

    Returns
    -------
    Whether any job waits for the download.
    """
    parameters = _need_parameters(need, device) | _progress_parameters(progress)
    with database.writing() as session:
        waiting = session.scalars(statements.download_progress_statement(need.parameter), parameters).all()
        for job_id in waiting if changed else ():
            outbox.publish_progress(session, job_id, progress)
        return bool(waiting)


def fail_waiting(database: Database, need: Need, device: DeviceClass, outcome: Outcome) -> list[TransitionedJob]:
    """End the queued jobs of a device class that need what cannot be downloaded."""
    with database.writing() as session:
        return _finish(session, outcome, statements.waiting_condition(need.parameter), _need_parameters(need, device))


def delete_job(database: Database, job_id: str) -> None:
    """Delete an ended job and all rows that refer to it; the caller must remove the job's files.

    Raises
    ------
    NotFoundError
        There is no such job.
    ConflictError
        The job has not ended.
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


def _need_parameters(need: Need, device: DeviceClass) -> dict[str, Any]:
    return {"needed_kind": need.kind, "needed_name": need.name, "needed_device": device}


def _lease_parameters(lease: Lease) -> dict[str, Any]:
    return {"lease_job_id": lease.job_id, "lease_attempt": lease.attempt}


def _progress_parameters(progress: Progress | None) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in asdict(progress).items()} if progress else {}


def _execute(session: Session, statement: ReturningUpdate[Any], parameters: Mapping[str, Any]) -> list[TransitionedJob]:
    """Execute a transition; the caller must publish it."""
    return [TransitionedJob(*row) for row in session.execute(statement, parameters)]


def _requeue(session: Session, condition: statements.Condition, parameters: Mapping[str, Any]) -> list[TransitionedJob]:
    """Move jobs back to the queue and publish their new state."""
    requeued = _execute(session, statements.requeue_statement(condition), parameters)
    outbox.publish_states(session, requeued)
    return requeued


def _finish(
    session: Session, outcome: Outcome, condition: statements.Condition, parameters: Mapping[str, Any]
) -> list[TransitionedJob]:
    """Move jobs to a final state, write the outcome, update the recorded artifacts, and publish the changes."""
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
    outbox.publish_states(session, ended)  # last: clients stop following a job after its final state
    return ended


def _insert_artifacts(session: Session, job_id: str, files: Iterable[StoredFile]) -> None:
    session.execute(statements.INSERT_ARTIFACTS, [{"job_id": job_id} | asdict(file) for file in files])


def _recover(session: Session, jobs: Iterable[Job], delay: RetryDelay) -> list[TransitionedJob]:
    """Move jobs whose attempt was lost to their next state.

    A job is cancelled if its cancellation is requested, fails after its last attempt, and otherwise is queued again.
    """
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
