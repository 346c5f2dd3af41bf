"""What goes on beside something else, in a thread, for as long as a block runs."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """A context manager whose thread runs while its block does.

    Parameters
    ----------
    name
        The thread's.
    """

    def __init__(self, name: str) -> None:
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the thread to end, and wait until it has."""
        self._left.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Do what is to be done until ``self._left`` is set."""
