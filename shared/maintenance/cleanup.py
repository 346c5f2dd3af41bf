"""Deletes old rows with their files, files that no row records, and checkpoints that no job needs any more."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from sqlalchemy import delete, select

from shared.database import uploads
from shared.database.connection import now
from shared.database.tables import Artifact, BrowserSession, Delivery, Job, Upload
from shared.errors import ConflictError, NotFoundError
from shared.files.keys import CHECKPOINTS, JOBS, UPLOADS, checkpoint_prefix, id_of, job_prefix
from shared.jobs import ENDED, State
from shared.services import Services

BATCH: Final = 200
"""The maximum number of rows or files that are handled at once."""
DAY_S: Final = 86_400.0
ORPHAN_AGE_S: Final = DAY_S
"""A file without a row is removed at this age. A younger file may still get a row, which is written after the file."""

logger = logging.getLogger(__name__)


def clean_up(services: Services) -> None:
    """Delete old jobs, uploads, messages and sessions, and remove the files that no row records, once."""
    _delete_old_jobs(services)
    _delete_old_uploads(services)
    _delete_old_messages(services)
    _delete_expired_sessions(services)
    _remove_orphans(services)


def remove_checkpoints(services: Services) -> None:
    """Remove the checkpoints of jobs that have ended or are deleted.

    A job may be ended by its worker, by the parent process of the worker, by the web, or by the sweeper. None of these
    processes removes the checkpoints when it ends a job, so this function does. There are few checkpoints to check,
    since checkpoints are kept only until the job has ended.
    """
    job_ids = sorted({id_of(file.key) for file in services.files.list(CHECKPOINTS)})
    for start in range(0, len(job_ids), BATCH):
        batch = job_ids[start : start + BATCH]
        with services.database.reading() as session:
            unended = set(session.scalars(select(Job.id).where(Job.id.in_(batch), Job.state.not_in(ENDED))))
        for job_id in set(batch) - unended:  # a job that has ended never runs again
            services.files.remove(checkpoint_prefix(job_id))


def _delete_old_jobs(services: Services) -> None:
    """Delete the jobs that ended long ago.

    The row of a job is deleted before its files. If this process ends between the two steps, files without a row
    remain, and a later cleanup removes them. In the opposite order, a row without files could remain, which no cleanup
    would find.
    """
    old = (
        select(Job.id)
        .where(Job.finished_at < now(-services.settings.retention_days * DAY_S), Job.state.in_(ENDED))
        .limit(BATCH)
    )
    statement = delete(Job).where(Job.id.in_(old.scalar_subquery())).returning(Job.id)
    while True:
        with services.database.writing() as session:
            deleted = session.scalars(statement, execution_options={"synchronize_session": False}).all()
        for job_id in deleted:
            services.files.remove(job_prefix(job_id))
        if len(deleted) < BATCH:
            return


def _delete_old_uploads(services: Services) -> None:
    """Delete the old uploads that no queued or running job uses."""
    with services.database.reading() as session:
        needed = uploads.list_needed_uploads(session)
        old = session.scalars(
            select(Upload.id).where(Upload.created_at < now(-services.settings.retention_days * DAY_S))
        ).all()
    for upload_id in old:
        if upload_id not in needed:
            # The client may have deleted the upload, or submitted a job that names it, since the rows were read.
            with suppress(NotFoundError, ConflictError):
                services.files.remove(uploads.delete_upload(services.database, upload_id))


def _delete_old_messages(services: Services) -> None:
    """Delete old messages; messages become old if a webhook accepts them more slowly than they are written."""
    with services.database.writing() as session:
        old = delete(Delivery).where(Delivery.created_at < now(-services.settings.retention_days * DAY_S))
        deleted = session.scalars(old.returning(Delivery.id)).all()
    if deleted:
        logger.warning(
            "%d messages to webhooks were not delivered within %g days and are deleted",
            len(deleted),
            services.settings.retention_days,
        )


def _delete_expired_sessions(services: Services) -> None:
    with services.database.writing() as session:
        session.execute(delete(BrowserSession).where(BrowserSession.expires_at < now()))


def _remove_orphans(services: Services) -> None:
    """Remove the old files that have no row; such files are left by crashes and lost attempts."""
    for keys in _list_old_keys(services, UPLOADS):
        with services.database.reading() as session:
            recorded = set(session.scalars(select(Upload.id).where(Upload.id.in_(map(id_of, keys)))))
        _remove_all(services, [key for key in keys if id_of(key) not in recorded])
    for keys in _list_old_keys(services, JOBS):
        with services.database.reading() as session:
            # The order of the two queries matters: if a job ends between the two, the first query returns the job, and
            # the second query returns the job's artifacts, so the artifacts are kept.
            running = set(session.scalars(select(Job.id).where(Job.state == State.RUNNING)))
            recorded = set(session.scalars(select(Artifact.key).where(Artifact.key.in_(keys))))
        _remove_all(services, [key for key in keys if key not in recorded and id_of(key) not in running])


def _list_old_keys(services: Services, prefix: str) -> Iterator[list[str]]:
    """Yield the keys of the old files below a prefix, in batches."""
    latest = datetime.now(UTC) - timedelta(seconds=ORPHAN_AGE_S)
    keys = (file.key for file in services.files.list(prefix) if file.written_at < latest)
    while batch := list(islice(keys, BATCH)):
        yield batch


def _remove_all(services: Services, keys: Iterable[str]) -> None:
    for key in keys:
        logger.info("removing the file %s, which no row records", key)
        services.files.remove(key)
