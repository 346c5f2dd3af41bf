"""The keys of every file in the file store.

A key is a relative path with slashes, made only of fixed words, identifiers, attempt numbers and the names that
engines give to artifacts. The keys of a job's files contain the number of the attempt, so that a worker that has lost
its lease does not overwrite files of a later attempt.
"""

from typing import Final

UPLOADS: Final = "uploads"
"""Prefix of all uploads."""
JOBS: Final = "jobs"
"""Prefix of all artifacts."""
CHECKPOINTS: Final = "checkpoints"
"""Prefix of all checkpoints."""


def upload_key(upload_id: str) -> str:
    """Return the key of an upload."""
    return f"{UPLOADS}/{upload_id}"


def job_prefix(job_id: str) -> str:
    """Return the prefix of the artifacts of a job, for all attempts together."""
    return f"{JOBS}/{job_id}"


def artifact_key(job_id: str, attempt: int, name: str) -> str:
    """Return the key of an artifact that an attempt wrote."""
    return f"{job_prefix(job_id)}/{attempt}/{name}"


def checkpoint_prefix(job_id: str) -> str:
    """Return the prefix of the checkpoints of a job, for all attempts together."""
    return f"{CHECKPOINTS}/{job_id}"


def checkpoint_key(job_id: str, attempt: int) -> str:
    """Return the key of an attempt's checkpoint."""
    return f"{checkpoint_prefix(job_id)}/{attempt}"


def id_of(key: str) -> str:
    """Return the id in the key of a file: the id of an upload, or of the job that the file belongs to."""
    return key.split("/")[1]
