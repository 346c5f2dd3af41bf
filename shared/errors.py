"""The exception hierarchy of the service; the sentences for people are in `shared.texts`."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from shared.texts import Text, render, render_title


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request.

    Parameters
    ----------
    pointer
        JSON pointer (RFC 6901) of the field, ``/params/k`` for example.
    text
        What is wrong and what would be right.
    """

    pointer: str
    text: Text

    @property
    def code(self) -> str:
        """The stable name of the problem, for programs."""
        return self.text.code

    @property
    def detail(self) -> str:
        """What is wrong and what would be right, in English."""
        return render(self.text)


class MindjobsError(Exception):
    """The base class of every error that is raised on purpose.

    ``type`` is the type of error for programs and never changes. ``status`` is the HTTP status of the error. After
    ``retry_after_s`` seconds the same request may succeed.

    Parameters
    ----------
    text
        What went wrong and what to do.
    retry_after_s
        Replaces the attribute of the class.
    """

    type = "internal-error"
    status = 500
    retry_after_s: int | None = None

    def __init__(self, text: Text, retry_after_s: int | None = None) -> None:
        self.text = text
        self.retry_after_s = retry_after_s or self.retry_after_s
        super().__init__(self.text)

    def __str__(self) -> str:
        return self.detail

    @property
    def title(self) -> str:
        """The type of error, in a few English words."""
        return render_title(self.type)

    @property
    def detail(self) -> str:
        """What went wrong and what to do, in English."""
        return render(self.text)


class RequestInvalidError(MindjobsError):
    """The service cannot do what a request asks for; nothing was queued."""

    type = "invalid-request"
    status = 422

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(Text("request-invalid"))

    @property
    def detail(self) -> str:
        """All problems in English, each with the pointer of its field."""
        return "; ".join(f"{problem.pointer}: {problem.detail}" for problem in self.problems)

    @classmethod
    def at(cls, pointer: str, text: Text) -> "RequestInvalidError":
        """Make an error with one problem, for one field."""
        return cls([Problem(pointer, text)])


class RequestMalformedError(MindjobsError):
    """The service cannot read a request, for example because its body is not JSON."""

    type = "malformed-request"
    status = 400


class BodyIncompleteError(MindjobsError):
    """The body of a request ended too early."""

    type = "body-incomplete"
    status = 400


class BodySlowError(MindjobsError):
    """The body of a request arrived too slowly."""

    type = "body-slow"
    status = 408


class KeyRequiredError(MindjobsError):
    """A request has no API key that this instance knows."""

    type = "key-required"
    status = 401


class OperatorOnlyError(MindjobsError):
    """A request needs an API key whose role is operator."""

    type = "operator-only"
    status = 403


class LimitError(MindjobsError):
    """An API key has reached one of its limits."""

    type = "limit-reached"
    status = 429


class WrongKeysError(MindjobsError):
    """Too many wrong API keys were sent from one address, or the same one too often."""

    type = "too-many-wrong-keys"
    status = 429


class BusyError(MindjobsError):
    """Too many requests that wait, such as event streams, are open."""

    type = "busy"
    status = 503
    retry_after_s = 5


class UploadPendingError(MindjobsError):
    """A request names uploads whose inspection has not ended.

    Parameters
    ----------
    upload_ids
        These uploads.
    """

    type = "upload-pending"
    status = 503
    retry_after_s = 2

    def __init__(self, upload_ids: Iterable[str]) -> None:
        self.upload_ids = sorted(upload_ids)
        super().__init__(Text("upload-pending", {"uploads": ", ".join(self.upload_ids)}))


class CrossSiteError(MindjobsError):
    """A page of another site made the browser send the request."""

    type = "cross-site"
    status = 403


class NotFoundError(MindjobsError):
    """There is no such job, artifact, upload or API key."""

    type = "not-found"
    status = 404


class ConflictError(MindjobsError):
    """The state of the job does not allow what was requested."""

    type = "conflict"
    status = 409


class NameTakenError(MindjobsError):
    """Another API key has this name."""

    type = "name-taken"
    status = 409


class KeysExistError(MindjobsError):
    """The service cannot be opened, because there are API keys."""

    type = "keys-exist"
    status = 409


class IdempotencyError(MindjobsError):
    """An idempotency key was used again with another body."""

    type = "idempotency-key-reused"
    status = 422


class TooLargeError(MindjobsError):
    """An upload or a body is over its limit."""

    type = "too-large"
    status = 413


class EncodingUnsupportedError(MindjobsError):
    """The body of a request is compressed in a way that the service cannot read."""

    type = "encoding-unsupported"
    status = 415


class DiskFullError(MindjobsError):
    """A file cannot be written because a disk is full.

    Parameters
    ----------
    storage
        Address of the file store. The file store is most likely on the full disk, but a temporary file may have filled
        another disk.
    """

    type = "disk-full"
    status = 507

    def __init__(self, storage: str) -> None:
        super().__init__(Text("disk-full", {"storage": storage}))


def is_disk_full(error: BaseException) -> bool:
    """Return whether the system refused to write because the disk, or the user's quota on the disk, is full."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


class DeviceMissingError(MindjobsError):
    """The device that a worker was started for is not available."""

    type = "device-missing"


class SettingsError(MindjobsError):
    """A setting is wrong, so the process does not start."""

    type = "settings-invalid"


class InstanceLostError(MindjobsError):
    """The processes of an instance were ended by something else than the instance itself."""

    type = "instance-lost"


class JobFailedError(MindjobsError):
    """The job itself cannot succeed, even if it runs again. A request with the same parameters fails as well.

    Parameters
    ----------
    error_type
        The job's ``error.type``, for example ``negative-values``. The catalogue contains the title of each type.
    text
        What happened and what the user can do.
    """

    status = 422

    def __init__(self, error_type: str, text: Text) -> None:
        super().__init__(text)
        self.type = error_type


class JobStoppedError(MindjobsError):
    """The job must stop. The progress callback raises this error in the engine."""

    type = "stopped"
