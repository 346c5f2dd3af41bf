"""Deleting an ended job."""

from shared.database import transitions
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
