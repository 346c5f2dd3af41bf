"""Forgets what is old, and removes files that no row records and checkpoints that nobody needs any more."""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.database import transitions
from shared.database.connection import now
from shared.database.tables import Artifact, Delivery, Job, Upload
from shared.files.keys import CHECKPOINTS, JOBS, UPLOADS, checkpoint_prefix, id_of, job_prefix, upload_key
from shared.jobs import ENDED, State
from shared.kinds import list_uploads, parse_params
from shared.services import Services

BATCH: Final = 200
DAY_S: Final = 86_400.0

logger = logging.getLogger(__name__)


def clean_up(services: Services) -> None:
    """Do everything once."""
    _forget_jobs(services)
    _forget_uploads(services)
    _forget_messages(services)
    _remove_orphans(services)


def delete_job(services: Services, job_id: str) -> None:
    """Forget an ended job and its files.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has not ended.
    """
    transitions.delete_job(services.database, job_id)
    remove_files(services, job_id)


def remove_files(services: Services, job_id: str) -> None:
    """Remove every file of a job that is no longer recorded."""
    services.files.remove(job_prefix(job_id))


def remove_checkpoints(services: Services) -> None:
    """Remove the checkpoints of the jobs that have ended or are gone.

    A job ends in many places: its worker, another's parent, the web, the
    sweeper. None of them removes its checkpoints; this does, for all of them,
    and finds few folders to look at, since only unended jobs keep theirs.
    """
    job_ids = sorted({id_of(file.key) for file in services.files.list(CHECKPOINTS)})
    for start in range(0, len(job_ids), BATCH):
        batch = job_ids[start : start + BATCH]
        with services.database.reading() as session:
            unended = set(session.scalars(select(Job.id).where(Job.id.in_(batch), Job.state.not_in(ENDED))))
        for job_id in set(batch) - unended:  # a job that has ended stays so
            services.files.remove(checkpoint_prefix(job_id))


def _forget_jobs(services: Services) -> None:
    """Delete the jobs that ended long ago, rows first: a file without a row is found again, not so the other way."""
    old = (
        select(Job.id)
        .where(Job.finished_at < now(-services.settings.retention_days * DAY_S), Job.state.in_(ENDED))
        .limit(BATCH)
    )
    while True:
        with services.database.writing() as session:
            statement = delete(Job).where(Job.id.in_(old.scalar_subquery())).returning(Job.id)
            gone = session.scalars(statement, execution_options={"synchronize_session": False}).all()
        for job_id in gone:
            remove_files(services, job_id)
        if len(gone) < BATCH:
            return


def _forget_uploads(services: Services) -> None:
    """Delete the old uploads that no job still to run may name."""
    with services.database.reading() as session:
        wanted = _list_wanted_uploads(session)
        old = session.scalars(
            select(Upload.id).where(Upload.created_at < now(-services.settings.retention_days * DAY_S))
        ).all()
    for upload_id in set(old) - wanted:
        with services.database.writing() as session:
            session.execute(delete(Upload).where(Upload.id == upload_id))
        services.files.remove(upload_key(upload_id))


def _forget_messages(services: Services) -> None:
    """Delete the messages of so long ago: their endpoint takes them slower than they come."""
    with services.database.writing() as session:
        old = delete(Delivery).where(Delivery.created_at < now(-services.settings.retention_days * DAY_S))
        gone = session.scalars(old.returning(Delivery.id)).all()
    if gone:
        logger.warning(
            "%d messages to webhooks are given up after %g days", len(gone), services.settings.retention_days
        )


def _list_wanted_uploads(session: Session) -> set[str]:
    unended = select(Job.kind, Job.params).where(Job.state.in_([State.QUEUED, State.RUNNING]))
    return {
        upload_id
        for kind, params in session.execute(unended)
        for upload_id in list_uploads(kind, parse_params(kind, params)).values()
    }


def _remove_orphans(services: Services) -> None:
    """Remove the files that have no row a day after they were written: what a crash or a lost attempt left."""
    for keys in _list_old_keys(services, UPLOADS):
        with services.database.reading() as session:
            recorded = set(session.scalars(select(Upload.id).where(Upload.id.in_(map(id_of, keys)))))
        _remove_all(services, [key for key in keys if id_of(key) not in recorded])
    for keys in _list_old_keys(services, JOBS):
        with services.database.reading() as session:
            # In this order: a job that ends in between is in both.
            running = set(session.scalars(select(Job.id).where(Job.state == State.RUNNING)))
            recorded = set(session.scalars(select(Artifact.key).where(Artifact.key.in_(keys))))
        _remove_all(services, [key for key in keys if key not in recorded and id_of(key) not in running])


def _list_old_keys(services: Services, prefix: str) -> Iterator[list[str]]:
    """Yield the keys of files that were written over a day ago, in batches."""
    latest = datetime.now(UTC) - timedelta(seconds=DAY_S)
    keys = (file.key for file in services.files.list(prefix) if file.written_at < latest)
    while batch := list(islice(keys, BATCH)):
        yield batch


def _remove_all(services: Services, keys: Iterable[str]) -> None:
    for key in keys:
        logger.info("removing %s, which no row records", key)
        services.files.remove(key)
