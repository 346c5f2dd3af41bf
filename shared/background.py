"""A thread that runs while a ``with`` block runs."""

import contextvars
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Executor, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Background(ABC):
    """A context manager with a thread that runs while the ``with`` block runs.

    Parameters
    ----------
    name
        The name of the thread.
    threads
        An executor that provides the thread. It can reuse a thread for many blocks, which saves time, since starting a
        thread takes as long as a short job. If no executor is given, each block starts a new thread.
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
        """Request the thread to end, and wait until the thread has ended."""
        self._stop_requested.set()
        self._finished.result()

    @abstractmethod
    def _run(self) -> None:
        """Do the work of the thread, until ``self._stop_requested`` is set."""
