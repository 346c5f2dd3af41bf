"""Uploads and the jobs that name them: an upload is never deleted while a queued or running job needs it.

A submission locks the rows of the uploads that its parameters name, in the transaction that inserts the job. A deletion
locks the row of its upload before it looks for jobs. So one of the two waits for the other: either the deletion finds
the job, or the submission finds no upload. On SQLite, the write lock has the same effect.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Text, cast, delete, select
from sqlalchemy.orm import Session

from shared.database.connection import Database
from shared.database.tables import Job, Upload
from shared.errors import ConflictError, NotFoundError, Problem, RequestInvalidError
from shared.jobs import State
from shared.texts import text

MAX_NAMED_JOBS: Final = 5
"""The maximum number of jobs that an error names."""
_UNENDED: Final = (State.QUEUED, State.RUNNING)


def lock_uploads(session: Session, upload_ids: Mapping[str, str]) -> None:
    """Prevent the deletion of uploads until the transaction has ended.

    Parameters
    ----------
    upload_ids
        The ids of the uploads, keyed by the JSON pointer of the parameter that names the upload.

    Raises
    ------
    RequestInvalidError
        At least one of the uploads does not exist.
    """
    if not upload_ids:
        return
    ids = sorted(set(upload_ids.values()))
    locked = select(Upload.id).where(Upload.id.in_(ids)).with_for_update(read=True, key_share=True)
    found = set(session.scalars(locked))
    problems = [
        Problem(pointer, text("upload-not-found", upload=upload_id))
        for pointer, upload_id in upload_ids.items()
        if upload_id not in found
    ]
    if problems:
        raise RequestInvalidError(problems)


def delete_upload(database: Database, upload_id: str, owner: str | None = None) -> str:
    """Delete the row of an upload, and return the key of its file, which the caller must remove.

    Parameters
    ----------
    owner
        The upload must belong to this owner; ``None`` if it may belong to any owner.

    Raises
    ------
    NotFoundError
        There is no such upload.
    ConflictError
        A queued or running job names the upload.
    """
    conditions = [Upload.id == upload_id] + ([] if owner is None else [Upload.owner == owner])
    with database.writing() as session:
        key = session.scalar(select(Upload.key).where(*conditions).with_for_update())
        if key is None:
            raise NotFoundError(text("uploaded-file-not-found", upload=upload_id))
        job_ids = _list_jobs_naming(session, upload_id)
        if job_ids:
            raise ConflictError(text("delete-needed-upload", upload=upload_id, jobs=_enumerate(job_ids)))
        session.execute(delete(Upload).where(Upload.id == upload_id))
        return key


def list_needed_uploads(session: Session) -> set[str]:
    """Return every string in the parameters of unended jobs; the ids of the uploads of these jobs are among them.

    In this way the parameters need not be parsed. Parsing is impossible if this version of the service does not know
    the kind of the job.
    """
    unended = select(Job.params).where(Job.state.in_(_UNENDED))
    return {string for params in session.scalars(unended) for string in _list_strings(params)}


def _list_jobs_naming(session: Session, upload_id: str) -> list[str]:
    unended = select(Job.id, Job.params).where(Job.state.in_(_UNENDED), cast(Job.params, Text).contains(upload_id))
    rows = session.execute(unended.order_by(Job.id))
    return [job_id for job_id, params in rows if upload_id in _list_strings(params)]


def _list_strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    match value:
        case str():
            yield value
        case dict():
            yield from _list_strings([*value.values()])
        case list():
            for item in value:
                yield from _list_strings(item)


def _enumerate(job_ids: Sequence[str]) -> str:
    return ", ".join([*job_ids[:MAX_NAMED_JOBS], *(["…"] if len(job_ids) > MAX_NAMED_JOBS else [])])
