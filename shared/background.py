"""What goes on beside something else, in a thread, for as long as a block runs."""

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
        The thread's.
    threads
        Lends it, where many such blocks follow each other: to start one takes as long as a short job's path.
    """

    def __init__(self, name: str, threads: Executor | None = None) -> None:
        self._left = threading.Event()
        self._threads = threads or ThreadPoolExecutor(1, name)

    def __enter__(self) -> Self:
        """Start the thread."""
        # What lines are about goes with it into the thread.
        self._ended = self._threads.submit(contextvars.copy_context().run, self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the thread to end, and wait until it has."""
        self._left.set()
        self._ended.result()

    @abstractmethod
    def _run(self) -> None:
        """Do what is to be done until ``self._left`` is set."""
