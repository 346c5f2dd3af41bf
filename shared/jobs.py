"""What a job is: its states, the steps between them, its attempts. Knows nothing but the standard library."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds its lease
    SUCCEEDED = "succeeded"  # has a result
    FAILED = "failed"  # has an error; will not run again
    CANCELLED = "cancelled"  # somebody asked for it


ENDED: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

# running → queued happens when a worker is lost or hands its job back;
# queued → failed when the deadline passes before a worker is free.
TRANSITIONS: Final = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset[State](),
    State.FAILED: frozenset[State](),
    State.CANCELLED: frozenset[State](),
}


class Kind(StrEnum):
    """What a job computes."""

    KNN = "knn"
    MUSICGEN = "musicgen"


class DeviceClass(StrEnum):
    """On what a job runs, best first: ``auto`` takes the first with a live worker."""

    ASCEND = "ascend"
    GPU = "gpu"
    CPU = "cpu"


AUTO: Final = "auto"
ANONYMOUS: Final = ""
"""The owner of what was submitted without a key."""
MAX_PRIORITY: Final = 9


class EventKind(StrEnum):
    """What an event in a job's history tells."""

    STATE = "state"
    PROGRESS = "progress"
    ARTIFACT = "artifact"


def name_queue(kind: Kind, device: DeviceClass) -> str:
    """Name the queue of one kind on one class of device, so that a second of KNN never waits behind music."""
    return f"{kind}.{device}"


@dataclass(frozen=True)
class Origin:
    """Where a job comes from.

    Parameters
    ----------
    owner
        The key that it belongs to.
    request_id
        Names the request in every log.
    """

    owner: str = ANONYMOUS
    request_id: str | None = None


@dataclass(frozen=True)
class Lease:
    """The right to one attempt of a job; ``attempt`` is the fence that a later attempt raises."""

    job_id: str
    attempt: int


@dataclass(frozen=True)
class WorkerIdentity:
    """Who claims jobs.

    Parameters
    ----------
    engines
        What runs each of the kinds that are claimed.
    worker
        Its name.
    lease_s
        For how long a claim holds.
    """

    engines: Mapping[Kind, str]
    device: DeviceClass
    worker: str
    lease_s: float


@dataclass(frozen=True)
class TransitionedJob:
    """A job that has taken a step: what events, webhooks and logs tell of it."""

    id: str
    owner: str
    kind: str
    state: str
    attempt: int
    worker: str | None
    cancel_requested: bool
    error: Mapping[str, Any] | None
    labels: Mapping[str, str]
    webhook: Mapping[str, Any] | None


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class HeartbeatReply:
    """What a worker learns when it says that it is alive."""

    cancel_requested: bool
    timed_out: bool


@dataclass(frozen=True)
class StoredFile:
    """A file that lies whole in the storage."""

    name: str
    path: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: ``state`` with its result and files, or with its error."""

    state: State
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    files: tuple[StoredFile, ...] = ()
    progress: Progress | None = None
    """The last that was reported, where there was any."""


@dataclass(frozen=True)
class RetryDelay:
    """How long a lost job waits before its next attempt."""

    first_s: float
    max_s: float

    def after(self, attempt: int) -> float:
        """Return the pause after a lost attempt, in seconds: doubled each time, up to ``max_s``."""
        doublings = min(attempt - 1, 60)  # more would only overflow
        return min(self.first_s * 2.0**doublings, self.max_s)


def build_error(error_type: str, code: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Build a job's ``error`` as its row holds it.

    Parameters
    ----------
    error_type
        Names the kind of error for programs.
    code, values
        What happened and what the user can do; see `shared.texts`.
    """
    return {"type": error_type, "code": code, "values": dict(values or {})}


CANCELLED: Final = Outcome(State.CANCELLED, error=build_error("cancelled", "cancelled"))
TIMED_OUT: Final = Outcome(State.FAILED, error=build_error("timeout", "timeout"))
WORKER_LOST: Final = Outcome(State.FAILED, error=build_error("worker-lost", "worker-lost"))
