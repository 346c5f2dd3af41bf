"""The interface between the worker and an engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

P = TypeVar("P")


class ReportProgress(Protocol):
    """Reports how far the job is; returns at once, or raises if the job must stop."""

    def __call__(self, *, stage: str, done: int, total: int, unit: str) -> None:
        """Report progress.

        Parameters
        ----------
        stage
            What is being done, in one word.
        done, total
            How much of it is done, and how much there is, counted in ``unit``.
        unit
            What is counted, ``rows`` for example.

        Raises
        ------
        JobStoppedError
            The job was cancelled, timed out, or now belongs to another worker.
            The engine must not catch it.
        """


SaveArtifact = Callable[[str, str, bytes], None]
"""Saves an artifact: name, media type, content. A name can be used once in a job."""


class Checkpoint(Protocol):
    """Stores what a later attempt of the same job needs to continue if this one is lost."""

    def load(self) -> bytes | None:
        """Return the last checkpoint of the latest earlier attempt, or ``None`` if there is none.

        These are just bytes: the engine decides whether they fit this job and this version of the engine.
        """

    def store(self, content: bytes) -> None:
        """Replace the checkpoint of this attempt; durable when this returns.

        It costs two syncs of the disk, so once every few seconds is often enough. If it
        cannot be stored, on a full disk for example, the job continues without it.
        """


class NullCheckpoint:
    """Stores nothing: for engines whose jobs are short, and for runs outside the service."""

    def load(self) -> bytes | None:
        """Return ``None``: there was no earlier attempt."""
        return None

    def store(self, content: bytes) -> None:
        """Discard the content."""


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
            The job cannot succeed; the user is shown its text.
        JobStoppedError
            Passed on from ``report``.
        """


@runtime_checkable
class BatchingEngine(Engine[P], Protocol[P]):
    """An engine that runs several jobs at the same time, each in a thread of its own."""

    def can_batch(self, params: P, running: Sequence[P]) -> bool:
        """Return whether a job can run in the same batch as the jobs that are running now.

        Parameters
        ----------
        params
            The parameters of the job.
        running
            The parameters of the running jobs, of which there is at least one.
        """
