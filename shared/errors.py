"""The one exception tree: what may go wrong, in words that a user understands."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request.

    Parameters
    ----------
    pointer
        JSON pointer (RFC 6901) of the field, ``/params/k`` for example.
    detail
        What is wrong and what would be right.
    """

    pointer: str
    detail: str


class MindjobsError(Exception):
    """The root: every error raised on purpose descends from it.

    ``type`` names the kind of error for programs and stays the same for ever;
    ``title`` names it for people; ``status`` is its HTTP status. After
    ``retry_after_s`` the same request may succeed.
    """

    type = "internal-error"
    title = "Something went wrong in the service"
    status = 500
    retry_after_s: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RequestInvalidError(MindjobsError):
    """A request names something that cannot be done; nothing was queued."""

    type = "invalid-request"
    title = "The request is not valid"
    status = 422

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{problem.pointer}: {problem.detail}" for problem in self.problems))

    @classmethod
    def at(cls, pointer: str, detail: str) -> "RequestInvalidError":
        """Make the error of a single field."""
        return cls([Problem(pointer, detail)])


class RequestMalformedError(MindjobsError):
    """A request that cannot be read at all."""

    type = "malformed-request"
    title = "The request cannot be read"
    status = 400


class KeyRequiredError(MindjobsError):
    """A request without a key that this instance knows."""

    type = "key-required"
    title = "A key is needed here"
    status = 401


class LimitError(MindjobsError):
    """A key has as much of something as it may have."""

    type = "limit-reached"
    title = "This key has reached a limit"
    status = 429


class BusyError(MindjobsError):
    """As many requests stay here as there is room for."""

    type = "busy"
    title = "There is no room for another request of this kind"
    status = 503
    retry_after_s = 5


class CrossSiteError(MindjobsError):
    """A page of another site made a browser send the request."""

    type = "cross-site"
    title = "Requests from other sites are refused"
    status = 403


class NotFoundError(MindjobsError):
    """There is no such job, artifact, upload or key."""

    type = "not-found"
    title = "There is no such thing here"
    status = 404


class ConflictError(MindjobsError):
    """The job's state does not allow what was asked."""

    type = "conflict"
    title = "The job's state does not allow this"
    status = 409


class NameTakenError(MindjobsError):
    """A key has this name already."""

    type = "name-taken"
    title = "The name is taken"
    status = 409


class IdempotencyError(MindjobsError):
    """An idempotency key came again with another body."""

    type = "idempotency-key-reused"
    title = "This Idempotency-Key was used for another request"
    status = 422


class TooLargeError(MindjobsError):
    """An upload or a body is over its limit."""

    type = "too-large"
    title = "This is larger than allowed"
    status = 413


class DiskFullError(MindjobsError):
    """A file cannot be written, because there is no room for it.

    Parameters
    ----------
    storage
        Address of the storage: where the room is missing, unless a temporary file was too large.
    """

    type = "disk-full"
    title = "The disk is full"
    status = 507

    def __init__(self, storage: str) -> None:
        super().__init__(
            f"There is no room left on a disk, most likely on the one of {storage}; make room there and try again."
        )


def is_disk_full(error: BaseException) -> bool:
    """Tell whether the system refused to write because the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


class DeviceMissingError(MindjobsError):
    """The device that a worker was told to use is not there."""

    type = "device-missing"
    title = "The device is not there"


class SettingsError(MindjobsError):
    """A setting is wrong; the process does not start."""

    type = "settings-invalid"
    title = "A setting is wrong"


class JobFailedError(MindjobsError):
    """The job itself cannot succeed, however often it runs; nor can a request that asks for the same.

    Parameters
    ----------
    error_type
        Goes into the job's ``error.type``, ``negative-values`` for example.
    title
        The error in a few words.
    detail
        What happened and what the user can do, in a sentence.
    """

    status = 422

    def __init__(self, error_type: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.type = error_type
        self.title = title


class JobStoppedError(MindjobsError):
    """Raised in the engine, by its progress callback, when the job must stop."""

    type = "stopped"
    title = "The job must stop"
