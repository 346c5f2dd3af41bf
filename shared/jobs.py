"""Jobs: states, transitions between the states, and attempts. This module imports only the standard library."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class State(StrEnum):
    """The state of a job."""

    QUEUED = "queued"  # the job waits for a worker
    RUNNING = "running"  # a worker holds the job's lease
    SUCCEEDED = "succeeded"  # the job has a result
    FAILED = "failed"  # the job has an error and will not run again
    CANCELLED = "cancelled"  # a client cancelled the job


ENDED: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

# For each state, the states that may follow it. A running job becomes queued if its worker is lost or returns the job
# to the queue. A queued job becomes failed if its deadline passes before a worker is free.
TRANSITIONS: Final = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset[State](),
    State.FAILED: frozenset[State](),
    State.CANCELLED: frozenset[State](),
}


STATE_PHRASES: Final[Mapping[str, str]] = {
    State.QUEUED: "is queued",
    State.RUNNING: "is running",
    State.SUCCEEDED: "has succeeded",
    State.FAILED: "has failed",
    State.CANCELLED: "was cancelled",
}
"""For each state, what logs and the client say about a job in this state, as in "job X was cancelled"."""


class Kind(StrEnum):
    """What a job computes."""

    KNN = "knn"
    MUSICGEN = "musicgen"


class DeviceClass(StrEnum):
    """The class of device that a job runs on, best first. ``auto`` means the first class that has a live worker."""

    ASCEND = "ascend"
    GPU = "gpu"
    CPU = "cpu"


AUTO: Final = "auto"
ANONYMOUS: Final = ""
"""The owner of jobs and uploads that were submitted without an API key."""
MAX_PRIORITY: Final = 9


class EventKind(StrEnum):
    """The kind of an event in a job's history."""

    STATE = "state"
    PROGRESS = "progress"
    ARTIFACT = "artifact"


def name_queue(kind: Kind, device: DeviceClass) -> str:
    """Return the name of the queue for a kind of job and a device class.

    Each kind has its own queues, so that a knn job of one second never waits for a long music job.
    """
    return f"{kind}.{device}"


@dataclass(frozen=True)
class Origin:
    """The request that submitted a job.

    Parameters
    ----------
    owner
        The API key that the job belongs to.
    request_id
        Identifies the request in every log.
    """

    owner: str = ANONYMOUS
    request_id: str | None = None


@dataclass(frozen=True)
class Lease:
    """The right to run one attempt of a job. ``attempt`` is the fencing token: each new attempt has a higher one."""

    job_id: str
    attempt: int


@dataclass(frozen=True)
class WorkerIdentity:
    """The worker that claims jobs.

    Parameters
    ----------
    engines
        For each kind of job that the worker claims, the name of the backend.
    worker
        The name of the worker.
    lease_s
        How long the lease of a claimed job lasts without a heartbeat.
    """

    engines: Mapping[Kind, str]
    device: DeviceClass
    worker: str
    lease_s: float


@dataclass(frozen=True)
class TransitionedJob:
    """A job after a transition, with the values that events, webhook messages and logs contain."""

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
    """The progress of a job within its current stage."""

    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class Need:
    """What jobs of a kind need before they can run: the jobs whose parameter ``parameter`` has the value ``name``.

    Two workers may need the same thing, for example if they are on two machines.
    """

    kind: Kind
    parameter: str
    name: str


@dataclass(frozen=True)
class HeartbeatReply:
    """The reply to a worker's heartbeat."""

    cancel_requested: bool
    timed_out: bool


@dataclass(frozen=True)
class StoredFile:
    """A file that is completely written to the file store."""

    name: str
    key: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: the final state with its result and files, or with its error."""

    state: State
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    files: tuple[StoredFile, ...] = ()
    progress: Progress | None = None
    """The last progress that was reported; ``None`` if no progress was reported."""


def build_error(error_type: str, code: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Build the ``error`` of a job, in the form in which the job's row stores it.

    Parameters
    ----------
    error_type
        The type of error, for programs.
    code, values
        The text that says what happened and what the user can do; see `shared.texts.Text`.
    """
    return {"type": error_type, "code": code, "values": dict(values or {})}


CANCELLED: Final = Outcome(State.CANCELLED, error=build_error("cancelled", "cancelled"))
TIMED_OUT: Final = Outcome(State.FAILED, error=build_error("timeout", "timeout"))
WORKER_LOST: Final = Outcome(State.FAILED, error=build_error("worker-lost", "worker-lost"))
