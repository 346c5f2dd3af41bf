"""The service's own sentences in English; those of a kind of job are in ``shared/kinds/KIND/english.py``.

A sentence may format its values: ``{share:.1%}``.
"""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    "sentence": "{sentence}",
    # Webhooks.
    "webhook-url-invalid": "is not a URL that can be called; use the form https://host:port/path",
    "webhook-url-credentials": "contains a user name or a password; leave them out: every message is signed",
    "webhook-address-private": "leads to an address that is not public; use a public one, or ask the operator of this "
    "instance to set MINDJOBS_ALLOW_PRIVATE_WEBHOOKS=true",
    "webhook-host-unknown": "names the host {host!r}, which is not found; check its spelling",
    # API keys.
    "key-name-taken": "There is already a key {name!r}. Choose another name, or revoke that key.",
    "key-not-found": "There is no key {name!r}. The command python -m web keys list shows all names.",
    "secret-damaged": "{path} is damaged. Delete it, and a new secret is created; all sessions end, and webhooks are "
    "signed with the new secret.",
    # The start of an instance.
    "home-in-use": "MINDJOBS_HOME: {home} is in use by another instance. Stop that instance, or choose another folder.",
    "port-in-use": "MINDJOBS_HOST, MINDJOBS_PORT: cannot listen on {address} ({reason}). Choose another port, for "
    "example MINDJOBS_PORT=8001.",
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
    # The file store.
    "storage-scheme-unknown": "MINDJOBS_STORAGE_URL: {url!r} has an unknown scheme; use one of {known}.",
    "storage-folder-invalid": "MINDJOBS_STORAGE_URL: {url!r} does not name a folder of this machine; "
    "write it as file:///an/absolute/folder.",
    "upload-file-missing": "the file of this upload no longer exists; upload it again",
    "file-too-large": "The file is larger than the {max_bytes} bytes allowed; send a smaller one.",
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
