"""What the worker and an engine promise each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Report(Protocol):
    """Tell how far the job is; returns at once, or raises when the job must stop."""

    def __call__(self, *, stage: str, done: int, total: int, unit: str) -> None:
        """Report progress.

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


Save = Callable[[str, str, bytes], None]
"""Store an artifact: name, media type, content. Later artifacts of one name are an error."""


@dataclass(frozen=True)
class Assignment:
    """One job as its engine sees it.

    Parameters
    ----------
    params
        The job's parameters, complete, as the schema of its kind printed them.
    uploads
        Upload id to the file on this machine, for each upload that ``params`` names.
    report
        To be called at least every second or so of work.
    save
        To be called for each artifact.
    """

    params: Mapping[str, Any]
    uploads: Mapping[str, Path]
    report: Report
    save: Save


class Engine(Protocol):
    """Runs the jobs of one kind on the device that this process is pinned to."""

    name: str

    def prepare(self) -> None:
        """Import and compile what the first job would otherwise wait for."""

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Run one job and return its result.

        Raises
        ------
        JobFailedError
            The job cannot succeed; its sentence is shown to the user.
        JobStoppedError
            Passed on from ``report``.
        """
