"""Keeps a running job's lease while its engine computes, and stops the engine when it must stop."""

import logging
import os
import signal
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.database import transitions
from shared.database.connection import Database
from shared.errors import JobStoppedError
from shared.jobs import CANCELLED, TIMED_OUT, Lease, Outcome, Progress
from shared.settings import Settings
from worker.watchdog import ChildStatus

logger = logging.getLogger(__name__)


class StopReason(Enum):
    """Why an engine must stop."""

    CANCELLED = auto()
    TIMED_OUT = auto()
    LOST = auto()  # the lease is another attempt's, or nobody's; what this one makes is discarded


OUTCOMES: Final = {StopReason.CANCELLED: CANCELLED, StopReason.TIMED_OUT: TIMED_OUT}


@dataclass(frozen=True)
class HeartbeatContext:
    """What all leases of a worker have in common.

    Parameters
    ----------
    worker
        Whose they are.
    threads
        Beat, one for each lease that is held.
    """

    database: Database
    settings: Settings
    pulse: ChildStatus
    worker: str
    threads: Executor


class LeaseHeartbeat(Background):
    """Beats in a thread while the block runs, so that the lease holds while native code computes.

    The thread also ends what cannot end itself: an engine that does not stop
    when told to, and one that makes no progress any more. It kills this process
    then; Celery's parent starts another.

    Parameters
    ----------
    keeping
        What it has in common with the worker's other leases.
    """

    def __init__(self, keeping: HeartbeatContext, lease: Lease) -> None:
        super().__init__("lease", keeping.threads)
        self._database = keeping.database
        self._settings = keeping.settings
        self._pulse = keeping.pulse
        self._worker = keeping.worker
        self._lease = lease
        self._progress: Progress | None = None
        self._written: Progress | None = None
        self._moved_at = time.monotonic()
        self._held_until = self._moved_at + self._settings.lease_s
        self._stop: StopReason | None = None
        self._stopped_at = 0.0

    def report(self, *, stage: str, done: int, total: int, unit: str) -> None:
        """Take the engine's progress; see ``worker.engines.interface.Report``."""
        self._progress = Progress(stage, done, total, unit)
        self._moved_at = time.monotonic()
        if self._stop is not None:
            raise JobStoppedError(f"The job must stop: {self._stop.name.lower()}.")

    @property
    def progress(self) -> Progress | None:
        """The last progress that the engine reported."""
        return self._progress

    @property
    def ending(self) -> Outcome | None:
        """How a stopped job ends; ``None`` where it is no longer ours to end."""
        return OUTCOMES.get(self._stop) if self._stop is not None else None

    def _run(self) -> None:
        self._pulse.beat()
        while not self._left.wait(self._settings.heartbeat_s):
            self._pulse.beat()
            if self._stop is None:
                self._beat()
                self._watch_progress()
            elif time.monotonic() - self._stopped_at > self._settings.grace_s:
                self._end_by_force(self._stop)

    def _beat(self) -> None:
        progress = self._progress
        try:
            news = progress if progress != self._written else None
            answer = transitions.heartbeat(self._database, self._lease, news, self._settings.lease_s)
        except SQLAlchemyError as error:
            logger.warning("job %s: no beat, the database does not answer: %s", self._lease.job_id, error)
            if time.monotonic() > self._held_until:
                self._tell(StopReason.LOST)
            return
        if answer is None:
            self._tell(StopReason.LOST)
            return
        self._written = progress
        self._held_until = time.monotonic() + self._settings.lease_s
        if answer.cancel_requested:
            self._tell(StopReason.CANCELLED)
        elif answer.timed_out:
            self._tell(StopReason.TIMED_OUT)

    def _tell(self, stop: StopReason) -> None:
        self._stopped_at = time.monotonic()
        self._stop = stop

    def _watch_progress(self) -> None:
        if time.monotonic() - self._moved_at > self._settings.stall_s:
            logger.error("job %s makes no progress any more; its process is killed", self._lease.job_id)
            try:
                transitions.recover_lost(self._database, self._lease, self._settings.retry_delay)
            finally:  # without the database the lease runs out by itself
                self._die()

    def _end_by_force(self, stop: StopReason) -> None:
        logger.error("job %s did not stop in time; its process is killed", self._lease.job_id)
        ending = OUTCOMES.get(stop)
        try:
            if ending is not None:
                transitions.finish(self._database, self._lease, ending)
        finally:
            self._die()

    def _die(self) -> None:
        """Kill this process; the jobs that run in it beside this one are queued again at once."""
        try:
            transitions.requeue_jobs_of(self._database, self._worker)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
