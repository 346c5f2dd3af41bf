"""What is stored about a failed attempt."""

import logging
from typing import Any, Final

from shared.errors import DiskFullError, JobFailedError, MindjobsError, is_disk_full
from shared.jobs import build_error

OUT_OF_MEMORY: Final = build_error("out-of-memory", "out-of-memory")
UNEXPECTED: Final = build_error("internal-error", "engine-failed")

logger = logging.getLogger(__name__)


def describe_failure(job_id: str, error: Exception, storage: str) -> dict[str, Any]:
    """Return the error in the form that the job's row stores; an error other than `JobFailedError` is also logged.

    Parameters
    ----------
    storage
        The address of the file store.
    """
    if isinstance(error, JobFailedError):
        return _serialize(error)
    if isinstance(error, MemoryError):
        logger.error("job %s ran out of memory", job_id, exc_info=error)
        return OUT_OF_MEMORY
    if is_disk_full(error):
        logger.error("job %s failed because the disk is full", job_id, exc_info=error)
        return _serialize(DiskFullError(storage))
    logger.error("job %s failed with an unexpected error", job_id, exc_info=error)
    return UNEXPECTED


def _serialize(error: MindjobsError) -> dict[str, Any]:
    return build_error(error.type, error.text.code, error.text.values)
