"""The service's own sentences in English; those of a kind of job are in ``shared/kinds/KIND/english.py``.

A sentence may format its values: ``{share:.1%}``.
"""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    "sentence": "{sentence}",
    # Settings.
    "settings-wrong": "{problems}",
    "settings-renamed": "{renamed}. Rename it in the environment or in .env.",
    "setting-lease-too-short": "MINDJOBS_LEASE_S must be at least three times MINDJOBS_HEARTBEAT_S",
    "setting-timeout-too-long": "MINDJOBS_TIMEOUT_S must not be above MINDJOBS_MAX_TIMEOUT_S",
    "setting-secret-too-short": "MINDJOBS_SECRET must have at least {min_length} random characters",
    "setting-home-characters": "MINDJOBS_HOME: {home} contains a character that cannot be part of an address; "
    "choose a path without quotes and without % ? # ; and backslash",
    "setting-home-too-deep": "MINDJOBS_HOME is too long: {socket} has over {max_bytes} bytes, too many for a socket; "
    "choose a shorter path, or set MINDJOBS_REDIS_URL",
    # How a job ends.
    "cancelled": "A client cancelled this job.",
    "timeout": "The job had not ended when the time limit timeout_s, counted from its submission, was reached. "
    "Submit it again with a longer timeout_s, or make it smaller.",
    "worker-lost": "The worker was lost in every attempt, often because there was too little memory. "
    "Make the job smaller, or retry it.",
    "upload-missing": "The upload {upload} no longer exists. Upload the file again and submit a new job.",
    "out-of-memory": "Make the data or the request smaller and try again.",
    "engine-failed": "An unexpected error occurred that the job did not cause; the worker's log has the details. "
    "A retry may help.",
    "disk-full": "There is no space left on a disk, most likely on the one that holds {storage}. "
    "Free some space and try again.",
}
"""Code to sentence."""

TITLES: Final[Mapping[str, str]] = {
    # Errors of requests.
    "internal-error": "An unexpected error occurred",
    "invalid-request": "The request is not valid",
    "malformed-request": "The request cannot be read",
    "key-required": "An API key is required",
    "limit-reached": "This API key has reached a limit",
    "busy": "Too many requests of this kind are open",
    "cross-site": "Requests from other sites are refused",
    "not-found": "Not found",
    "conflict": "The state of the job does not allow this",
    "name-taken": "The name is already in use",
    "idempotency-key-reused": "This Idempotency-Key was used for another request",
    "too-large": "The content is larger than allowed",
    "disk-full": "The disk is full",
    # Errors at the start of a process.
    "device-missing": "The device is not available",
    "settings-invalid": "A setting is wrong",
    # Errors of jobs.
    "stopped": "The job must stop",
    "cancelled": "The job was cancelled",
    "timeout": "The job took too long",
    "worker-lost": "The job's workers were lost",
    "upload-missing": "An upload no longer exists",
    "out-of-memory": "The job needs more memory than is available",
}
"""Type of error to its title."""
