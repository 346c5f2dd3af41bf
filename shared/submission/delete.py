"""Deleting an ended job."""

from shared.database import transitions
from shared.files.keys import job_prefix
from shared.services import Services


def delete_job(services: Services, job_id: str) -> None:
    """Delete an ended job and its files.

    Its row is deleted first: the sweeper finds files without a row, but not rows without their files.

    Raises
    ------
    NotFoundError, ConflictError
        There is no such job; it has not ended.
    """
    transitions.delete_job(services.database, job_id)
    services.files.remove(job_prefix(job_id))
