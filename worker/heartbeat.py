"""Keeps the lease of a running job while the engine computes, and stops the engine when the job must stop."""

import logging
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.database import transitions
from shared.database.connection import Database
from shared.errors import JobStoppedError
from shared.jobs import CANCELLED, TIMED_OUT, Lease, Outcome, Progress, StoredFile
from shared.settings import Settings
from shared.texts import text
from worker.attempt_files import AttemptFiles
from worker.watchdog import ChildStatus

logger = logging.getLogger(__name__)


class StopReason(Enum):
    """Why an engine must stop."""

    CANCELLED = auto()
    TIMED_OUT = auto()
    LOST = auto()  # the attempt no longer holds the lease, so its results are discarded


OUTCOMES: Final = {StopReason.CANCELLED: CANCELLED, StopReason.TIMED_OUT: TIMED_OUT}


@dataclass(frozen=True)
class HeartbeatContext:
    """What the heartbeats of all leases of a worker have in common.

    Parameters
    ----------
    worker
        The name of the worker.
    threads
        Provides two threads for each lease: one thread sends the heartbeats, the other one makes files durable.
    """

    database: Database
    settings: Settings
    status: ChildStatus
    worker: str
    threads: Executor


class LeaseHeartbeat(Background):
    """Sends heartbeats from a thread while the ``with`` block runs.

    So the lease is kept while native code computes.

    A heartbeat also records the progress and the files of the attempt.

    The thread also ends the attempt if its engine does not stop when it must,
    or if the engine makes no progress any more. To end the attempt, the thread
    kills this process. Celery's parent process then starts another child process.

    Parameters
    ----------
    files
        The files of the attempt.
    """

    def __init__(self, context: HeartbeatContext, lease: Lease, files: AttemptFiles) -> None:
        super().__init__("lease", context.threads)
        self._context = context
        self._settings = context.settings
        self._lease = lease
        self._files = files
        self._sync: Future[None] | None = None
        self._recorded_files = 0
        self._progress: Progress | None = None
        self._recorded_progress: Progress | None = None
        self._progress_at = time.monotonic()
        self._lease_until = self._progress_at + self._settings.lease_s
        self._stop_reason: StopReason | None = None
        self._stop_at = 0.0

    def report(self, *, stage: str, done: int, total: int, unit: str) -> None:
        """Accept the engine's progress; see ``worker.engines.interface.ReportProgress``."""
        self._progress = Progress(stage, done, total, unit)
        self._progress_at = time.monotonic()
        if self._stop_reason is not None:
            raise JobStoppedError(text("job-must-stop", reason=self._stop_reason.name.lower()))

    @property
    def progress(self) -> Progress | None:
        """The last progress that the engine reported."""
        return self._progress

    @property
    def outcome(self) -> Outcome | None:
        """The outcome if the attempt must stop because the job was cancelled or timed out; else ``None``."""
        return OUTCOMES.get(self._stop_reason) if self._stop_reason is not None else None

    def _run(self) -> None:
        self._context.status.mark_alive()
        while not self._stop_requested.wait(self._settings.heartbeat_s):
            self._context.status.mark_alive()
            if self._stop_reason is None:
                self._send_heartbeat()
                self._check_progress()
            elif time.monotonic() - self._stop_at > self._settings.grace_s:
                self._end_by_force(self._stop_reason)

    def _send_heartbeat(self) -> None:
        progress = self._progress
        changed = progress if progress != self._recorded_progress else None
        files = self._sync_files()
        try:
            reply = transitions.heartbeat(
                self._context.database, self._lease, changed, self._settings.lease_s, files=files
            )
        except SQLAlchemyError as error:
            logger.warning("job %s: no heartbeat, the database does not answer: %s", self._lease.job_id, error)
            if time.monotonic() > self._lease_until:
                self._request_stop(StopReason.LOST)
            return
        if reply is None:
            self._request_stop(StopReason.LOST)
            return
        self._recorded_progress = progress
        self._recorded_files += len(files)
        self._lease_until = time.monotonic() + self._settings.lease_s
        if reply.cancel_requested:
            self._request_stop(StopReason.CANCELLED)
        elif reply.timed_out:
            self._request_stop(StopReason.TIMED_OUT)

    def _sync_files(self) -> Sequence[StoredFile]:
        """Let another thread make the pending files durable; return the files that are durable, but not recorded yet.

        Another thread makes the files durable. The heartbeat waits for that thread for at most one interval, even if
        the disk is slow. Files that are not durable after this wait are recorded by a later heartbeat. If a file cannot
        be made durable, the error is not handled here: `AttemptFiles.sync` raises it again at the end of the attempt.
        """
        if self._files.has_pending():
            if self._sync is None or self._sync.done():
                self._sync = self._context.threads.submit(self._files.sync)
            wait([self._sync], self._settings.heartbeat_s)
        return self._files.durable[self._recorded_files :]

    def _request_stop(self, reason: StopReason) -> None:
        self._stop_at = time.monotonic()
        self._stop_reason = reason

    def _check_progress(self) -> None:
        if time.monotonic() - self._progress_at > self._settings.stall_s:
            logger.error("job %s makes no progress any more; its process is killed", self._lease.job_id)
            try:
                transitions.recover_lost(self._context.database, self._lease, self._settings.retry_delay)
            finally:  # kill even if the database does not answer: then the job is recovered when its lease expires
                self._kill_process()

    def _end_by_force(self, reason: StopReason) -> None:
        logger.error("job %s did not stop in time; its process is killed", self._lease.job_id)
        outcome = OUTCOMES.get(reason)
        try:
            if outcome is not None:
                transitions.finish(self._context.database, self._lease, outcome)
        finally:
            self._kill_process()

    def _kill_process(self) -> None:
        """Requeue the other jobs that run in this process, and kill the process."""
        try:
            transitions.requeue_jobs_of(self._context.database, self._context.worker)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
