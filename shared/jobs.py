"""What a job is: its states and the steps between them. Knows nothing but the standard library."""

from enum import StrEnum
from typing import Final


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
EDGES: Final = {
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
PRIORITY_MOST: Final = 9


class EventKind(StrEnum):
    """What an event in a job's history tells."""

    STATE = "state"
    PROGRESS = "progress"
    ARTIFACT = "artifact"


def name_queue(kind: Kind, device: DeviceClass) -> str:
    """Name the queue of one kind on one class of device, so that a second of KNN never waits behind music."""
    return f"{kind}.{device}"


def delay_retry_s(attempt: int, first_s: float, most_s: float) -> float:
    """Return the pause after a lost attempt: doubled each time, up to ``most_s``."""
    doublings = min(attempt - 1, 60)  # more would only overflow
    return min(first_s * 2.0**doublings, most_s)
