"""A thread that runs as long as a ``with`` block does."""

import contextvars
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Executor, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Background(ABC):
    """A context manager whose thread runs while its block does.

    Parameters
    ----------
    name
        The name of the thread.
    threads
        Provides the thread if many such blocks follow each other: starting one takes as long as a short job.
    """

    def __init__(self, name: str, threads: Executor | None = None) -> None:
        self._stop_requested = threading.Event()
        self._threads = threads or ThreadPoolExecutor(1, name)

    def __enter__(self) -> Self:
        """Start the thread."""
        # The log context is passed on to the thread.
        self._finished = self._threads.submit(contextvars.copy_context().run, self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask the thread to end, and wait until it has."""
        self._stop_requested.set()
        self._finished.result()

    @abstractmethod
    def _run(self) -> None:
        """Work until ``self._stop_requested`` is set."""
