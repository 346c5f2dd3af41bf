"""What the worker and an engine promise each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

P = TypeVar("P")


class ReportProgress(Protocol):
    """Tell how far the job is; returns at once, or raises when the job must stop."""

    def __call__(self, *, stage: str, done: int, total: int, unit: str) -> None:
        """ReportProgress progress.

        Parameters
        ----------
        stage
            What is being done, one word.
        done, total
            How much of it, counted in ``unit``.
        unit
            What is counted, ``rows`` for example.

        Raises
        ------
        JobStoppedError
            The job was cancelled, timed out, or is another worker's by now.
            The engine lets it pass.
        """


SaveArtifact = Callable[[str, str, bytes], None]
"""Store an artifact: name, media type, content. Later artifacts of one name are an error."""


class Checkpoint(Protocol):
    """Keeps what a later attempt of the same job needs to go on where this one was lost."""

    def load(self) -> bytes | None:
        """Return what the latest earlier attempt stored last, or ``None`` where none did.

        Bytes and no more: whether they suit this job and this version of the engine is the engine's to judge.
        """

    def store(self, content: bytes) -> None:
        """Keep this in place of what this attempt stored before; durable when it returns.

        Costs two syncs of the disk, so every few seconds is often enough. Where
        it cannot be kept, a full disk for example, the job goes on without.
        """


class NullCheckpoint:
    """Keeps nothing: for engines whose jobs are short, and for runs that are no job."""

    def load(self) -> bytes | None:
        """Return ``None``: there was no earlier attempt."""
        return None

    def store(self, content: bytes) -> None:
        """Forget it."""


@dataclass(frozen=True)
class JobContext(Generic[P]):
    """One job as its engine sees it.

    Parameters
    ----------
    params
        The job's parameters, parsed by the schema of its kind.
    uploads
        Upload id to the file on this machine, for each upload that ``params`` names.
    report
        To be called at least every second or so of work.
    save
        To be called for each artifact.
    checkpoint
        For engines whose jobs are long enough to be lost half-way.
    """

    params: P
    uploads: Mapping[str, Path]
    report: ReportProgress
    save: SaveArtifact
    checkpoint: Checkpoint = field(default_factory=NullCheckpoint)


class Engine(Protocol[P]):
    """Runs the jobs of one kind on the device that this process is pinned to."""

    name: str

    def prepare(self) -> None:
        """Import and compile what the first job would otherwise wait for."""

    def run(self, context: JobContext[P]) -> dict[str, Any]:
        """Run one job and return its result.

        Raises
        ------
        JobFailedError
            The job cannot succeed; its sentence is shown to the user.
        JobStoppedError
            Passed on from ``report``.
        """


@runtime_checkable
class BatchingEngine(Engine[P], Protocol[P]):
    """An engine that runs several jobs at the same time, each in a thread of its own."""

    def can_batch(self, params: P, running: Sequence[P]) -> bool:
        """Tell whether a job can run in the same batch as the jobs that run now.

        Parameters
        ----------
        params
            The parameters of the job.
        running
            Those of the jobs that run, at least one.
        """
