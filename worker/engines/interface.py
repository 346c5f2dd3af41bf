"""The interface between the worker and an engine."""

from collections.abc import Callable, Collection, Mapping, Sequence
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
            How many units of the stage are done, and how many units the whole stage has.
        unit
            What is counted, ``rows`` for example.

        Raises
        ------
        JobStoppedError
            The job was cancelled, timed out, or now belongs to another worker.
            The engine must not catch this error.
        """


SaveArtifact = Callable[[str, str, bytes], None]
"""Saves an artifact, given the name, the media type and the content. An attempt can use each name only once."""


class Checkpoint(Protocol):
    """Stores what a later attempt of the same job needs to continue if this attempt is lost."""

    def load(self) -> bytes | None:
        """Return the last checkpoint that an earlier attempt stored, or ``None`` if there is no checkpoint.

        The worker does not check the content: the engine decides whether the content fits this job and this version
        of the engine.
        """

    def store(self, content: bytes) -> None:
        """Replace the checkpoint of this attempt; the checkpoint is durable when this method returns.

        Each call costs two syncs of the disk, so one call every few seconds is often enough. If the checkpoint
        cannot be stored, on a full disk for example, the job continues without a new checkpoint.
        """


class NullCheckpoint:
    """Stores nothing: for engines whose jobs are short, and for runs outside the service."""

    def load(self) -> bytes | None:
        """Return ``None``: there is no checkpoint of an earlier attempt."""
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
        The path of a file on this machine, for the id of each upload that ``params`` names.
    report
        The engine calls this about once a second, or more often, while it works.
    save
        The engine calls this for each artifact.
    checkpoint
        Stores and loads checkpoints, so that a later attempt of a long job does not start from the beginning.
    job_id
        The id of the job; ``None`` outside the service.
    """

    params: P
    uploads: Mapping[str, Path]
    report: ReportProgress
    save: SaveArtifact
    checkpoint: Checkpoint = field(default_factory=NullCheckpoint)
    job_id: str | None = None


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
            The job cannot succeed; the text of the error is shown to the user.
        JobStoppedError
            The job must stop; ``report`` raised this error, and the engine did not catch it.
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


@runtime_checkable
class DownloadingEngine(Engine[P], Protocol[P]):
    """An engine whose jobs may need something that has to be downloaded first.

    A job waits in the queue until what it needs is downloaded, so that the download holds up no other job. If what a
    job needs is missing nevertheless when the job runs, the engine downloads it then.
    """

    downloaded_parameter: str
    """The parameter whose value names what a job needs, ``model`` for example."""

    def find_missing(self, params: P) -> str | None:
        """Return the name of what must be downloaded before a job can run; ``None`` if the job can run now.

        A job that cannot succeed can run now: it fails with the reason.
        """

    def download(self, name: str, keep: Collection[str], report: ReportProgress) -> None:
        """Download what is missing; called in a thread while jobs run in other threads.

        Parameters
        ----------
        name
            What `find_missing` returned.
        keep
            What other jobs need, by name; it must not be deleted to make room.
        report
            Called several times a second, with any stage and unit; raises if no job needs the download any more. A
            later call continues the download.

        Raises
        ------
        JobFailedError
            The download failed, so the jobs that wait for it fail.
        JobStoppedError
            Passed on from ``report``.
        """
