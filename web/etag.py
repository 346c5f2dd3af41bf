"""The ``ETag`` of a job: by it, clients and long polls notice that the job has changed."""

from hashlib import sha256

from shared.schemas import responses


def make_etag(document: responses.Job) -> str:
    """Return a hash that changes whenever the job changes, but not if only the remaining time is estimated anew."""
    without_estimate = document | {"eta_s": None}
    return sha256(repr(without_estimate).encode()).hexdigest()[:32]
