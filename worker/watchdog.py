"""The parent's eye on its child: a child that has stopped, or whose native code holds the interpreter, is killed.

The child cannot be asked, so it keeps a sign of life in memory that both share.
"""

import logging
import multiprocessing
import os
import signal
import time
from typing import Final

from shared.background import Background

IDLE: Final = 0.0

logger = logging.getLogger(__name__)


class ChildStatus:
    """What a worker's parent and its one child tell each other, in memory that is shared through the fork."""

    def __init__(self) -> None:
        self._beaten_at = multiprocessing.RawValue("d", IDLE)
        self._process_id = multiprocessing.RawValue("q", 0)
        self._closing = multiprocessing.RawValue("b", 0)
        self._ready = multiprocessing.Event()

    def announce(self) -> None:
        """Tell, in the child, that it is ready for jobs."""
        self._process_id.value = os.getpid()
        self._beaten_at.value = IDLE
        self._ready.set()

    def beat(self) -> None:
        """Tell, in the child, that it lives; from the start of a job to its end."""
        # The monotonic clock is the same for all processes of a machine.
        self._beaten_at.value = time.monotonic()

    def rest(self) -> None:
        """Tell, in the child, that no job runs any more."""
        self._beaten_at.value = IDLE

    def close(self) -> None:
        """Tell, in the parent, that what runs is to end and nothing more to begin."""
        self._closing.value = 1

    @property
    def closing(self) -> bool:
        """Whether nothing more is to begin."""
        return bool(self._closing.value)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait, in the parent, until a child has once been ready."""
        return self._ready.wait(timeout_s)

    @property
    def process_id(self) -> int:
        """The child that is ready or was last; 0 before."""
        return int(self._process_id.value)

    @property
    def silent_s(self) -> float:
        """How long the child has given no sign while it runs a job; 0 between jobs."""
        beaten_at = float(self._beaten_at.value)
        return time.monotonic() - beaten_at if beaten_at != IDLE else 0.0


class Watchdog(Background):
    """Kills a silent child while the block runs; Celery starts another.

    Parameters
    ----------
    max_silence_s
        Longer than a lease, so that a child that is killed had lost its job before.
    look_every_s
        How often to look. A child is killed when it was silent at two looks, so that one
        that slept as long as the parent did has time to say so.
    """

    def __init__(self, pulse: ChildStatus, max_silence_s: float, look_every_s: float) -> None:
        super().__init__("watchdog")
        self._pulse = pulse
        self._max_silence_s = max_silence_s
        self._look_every_s = look_every_s

    def _run(self) -> None:
        suspect = 0
        while not self._left.wait(self._look_every_s):
            child = self._pulse.process_id if self._pulse.silent_s > self._max_silence_s else 0
            if child and child == suspect:
                logger.error("process %d runs a job and gives no sign of life; it is killed", child)
                self._pulse.rest()
                os.kill(child, signal.SIGKILL)
            suspect = child
