"""Deleting an ended job."""

from shared.database import transitions
from shared.files.keys import job_prefix
from shared.services import Services


def delete_job(services: Services, job_id: str) -> None:
    """Delete an ended job and its files.

    The row is deleted before the files: if the files remain, the sweeper finds files without a row, but it would not
    find a row without files.

    Raises
    ------
    NotFoundError
        There is no such job.
    ConflictError
        The job has not ended.
    """
    transitions.delete_job(services.database, job_id)
    services.files.remove(job_prefix(job_id))
