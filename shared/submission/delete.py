"""Deleting ended jobs, and uploads that no job needs."""

from shared.database import transitions, uploads
from shared.files.keys import job_prefix
from shared.services import Services


def delete_job(services: Services, job_id: str) -> None:
    """Delete an ended job and its files.

    The row is deleted before the files. If this process ends between the two steps, files without a row remain, and the
    sweeper removes them. In the opposite order, a row without files could remain, which the sweeper would not find.

    Raises
    ------
    NotFoundError
        There is no such job.
    ConflictError
        The job has not ended.
    """
    transitions.delete_job(services.database, job_id)
    services.files.remove(job_prefix(job_id))


def delete_upload(services: Services, upload_id: str, owner: str) -> None:
    """Delete an upload of an owner; the row is deleted before the file, as for a job.

    Raises
    ------
    NotFoundError
        The owner has no such upload.
    ConflictError
        A queued or running job names the upload.
    """
    services.files.remove(uploads.delete_upload(services.database, upload_id, owner))
