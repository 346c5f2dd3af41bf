"""The parent process of a worker watches its child process, and kills a child that shows no sign of life.

A child shows no sign of life if it is suspended, or if its native code holds the interpreter lock. Such a child could
not answer the parent either. Therefore, while a job runs, the child records signs of life in memory that both
processes share, and the parent checks the time of the last sign.
"""

import logging
import multiprocessing
import os
import signal
import time
from typing import Final

from shared.background import Background
from shared.settings import Settings

IDLE: Final = 0.0

logger = logging.getLogger(__name__)


class ChildStatus:
    """What the parent process of a worker and its one child know of each other, in memory that both processes share."""

    def __init__(self) -> None:
        self._last_sign_at = multiprocessing.RawValue("d", IDLE)
        self._process_id = multiprocessing.RawValue("q", 0)
        self._active_at = multiprocessing.RawValue("d", time.monotonic())
        self._shutting_down = multiprocessing.RawValue("b", 0)
        self._ready = multiprocessing.Event()

    def mark_ready(self) -> None:
        """Record that the child is ready for jobs; called in the child."""
        self._process_id.value = os.getpid()
        self.mark_idle()
        self._ready.set()

    def mark_alive(self) -> None:
        """Record a sign of life; called in the child, again and again while a job runs."""
        # The monotonic clock is the same for all processes of a machine.
        self._last_sign_at.value = self._active_at.value = time.monotonic()

    def mark_idle(self) -> None:
        """Record that no job is running, because one has ended or there is none; called in the child."""
        self._last_sign_at.value = IDLE
        self._active_at.value = time.monotonic()

    def request_shutdown(self) -> None:
        """Record that running jobs are to end and no other job may start; called in the parent."""
        self._shutting_down.value = 1

    @property
    def shutting_down(self) -> bool:
        """Whether no other job may start."""
        return bool(self._shutting_down.value)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until the first child is ready or the timeout is over; return whether it is ready.

        Called in the parent.
        """
        return self._ready.wait(timeout_s)

    @property
    def process_id(self) -> int:
        """The process id of the child that became ready last; 0 before the first child is ready."""
        return int(self._process_id.value)

    @property
    def inactive_s(self) -> float:
        """The time since the child ran a job, or looked for one."""
        return time.monotonic() - float(self._active_at.value)

    @property
    def silence_s(self) -> float:
        """The time since the child's last sign of life if the child runs a job; 0 if it runs no job."""
        last_sign_at = float(self._last_sign_at.value)
        return time.monotonic() - last_sign_at if last_sign_at != IDLE else 0.0


class Watchdog(Background):
    """Kills a silent child while the block runs; Celery then starts another child.

    Parameters
    ----------
    settings
        A child that runs a job is silent if its last sign of life is older than the sum of ``lease_s`` and ``grace_s``.
        This sum is longer than a lease, so the leases of the child's jobs have expired before the child is killed. The
        parent checks the child every ``heartbeat_s``, and kills a child that was silent at two checks in a row. So, if
        parent and child were both suspended for a time, the child can give a sign of life between two checks.
    """

    def __init__(self, status: ChildStatus, settings: Settings) -> None:
        super().__init__("watchdog")
        self._status = status
        self._max_silence_s = settings.lease_s + settings.grace_s
        self._check_interval_s = settings.heartbeat_s

    def _run(self) -> None:
        suspect = 0
        while not self._stop_requested.wait(self._check_interval_s):
            child = self._status.process_id if self._status.silence_s > self._max_silence_s else 0
            if child and child == suspect:
                logger.error("process %d runs a job and gives no sign of life; it is killed", child)
                self._status.mark_idle()
                os.kill(child, signal.SIGKILL)
            suspect = child
