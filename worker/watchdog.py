"""The parent process of a worker watches its child process, and replaces a child that does not work.

A child that runs a job shows no sign of life if it is suspended, or if its native code holds the interpreter lock. Such
a child could not answer the parent either. Therefore, while a job runs, the child records signs of life in memory that
both processes share, and the parent checks the time of the last sign.

A child that runs no job must take each message that the parent has received. It does not if it is suspended. Celery's
pool of processes, too, has left a message with the parent: the worker's child had been killed, and some seconds later
the connection to Redis was lost.
"""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Final

from shared.background import Background
from shared.settings import Settings

IDLE: Final = 0.0
MAX_UNTAKEN_CHECKS: Final = 5
"""At this many checks in a row, an idle child may leave a message to its parent. It usually takes milliseconds."""

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

    def is_idle(self) -> bool:
        """Return whether the child is ready, has not ended, and runs no job; called in the parent.

        A killed child does not count until the next one is ready, which can take minutes.
        """
        if self._last_sign_at.value != IDLE or self.process_id == 0:
            return False
        try:
            ended = os.waitid(os.P_PID, self.process_id, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # Celery has already waited for it
            return False
        return ended is None

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
    """Watches the child while the block runs: kills a silent child, and stops a worker whose child takes no message.

    After a child was killed, Celery starts another child. A worker that was stopped is started again by Supervisor.

    Parameters
    ----------
    settings
        A child that runs a job is silent if its last sign of life is older than the sum of ``lease_s`` and ``grace_s``.
        This sum is longer than a lease, so the leases of the child's jobs have expired before the child is killed. The
        parent checks the child every ``heartbeat_s``, and kills a child that was silent at two checks in a row. So, if
        parent and child were both suspended for a time, the child can give a sign of life between two checks.
    count_untaken
        Counts the messages that the parent has received and the child has not taken.
    """

    def __init__(self, status: ChildStatus, settings: Settings, count_untaken: Callable[[], int]) -> None:
        super().__init__("watchdog")
        self._status = status
        self._max_silence_s = settings.lease_s + settings.grace_s
        self._check_interval_s = settings.heartbeat_s
        self._count_untaken = count_untaken
        self._suspect = 0
        self._untaken_checks = 0

    def _run(self) -> None:
        while not self._stop_requested.wait(self._check_interval_s):
            self._kill_if_silent()
            self._stop_if_untaken()

    def _kill_if_silent(self) -> None:
        child = self._status.process_id if self._status.silence_s > self._max_silence_s else 0
        if child and child == self._suspect:
            logger.error("process %d runs a job and gives no sign of life; it is killed", child)
            self._status.mark_idle()
            os.kill(child, signal.SIGKILL)
        self._suspect = child

    def _stop_if_untaken(self) -> None:
        """Stop the worker if its child is ready, runs no job, and takes no message.

        It is not known in which state Celery's pool is then, so a new child would not be enough. No job is lost, since
        none runs.
        """
        untaken = self._status.is_idle() and self._count_untaken() > 0
        self._untaken_checks = self._untaken_checks + 1 if untaken else 0
        if self._untaken_checks > MAX_UNTAKEN_CHECKS:
            logger.error("process %d takes no message, although it is idle; the worker stops", self._status.process_id)
            os._exit(1)
