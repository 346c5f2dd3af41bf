"""Runs queued jobs: claims them, runs their engines under a lease, and records the outcomes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.errors import JobFailedError, JobStoppedError, is_disk_full
from shared.jobs import STATE_PHRASES, Kind, Lease, Outcome, State, WorkerIdentity
from shared.kinds import list_uploads
from shared.logs import log_context
from shared.schemas.strict import Strict
from shared.services import Services
from shared.settings import MAX_CLAIM_LOOP_S
from shared.texts import text
from worker.attempt_files import AttemptFiles
from worker.checkpoint import StoredCheckpoint
from worker.devices import Device
from worker.downloads import Downloads
from worker.engines import ENGINES
from worker.engines.interface import BatchingEngine, Engine, JobContext
from worker.failures import UNEXPECTED, describe_failure
from worker.heartbeat import HeartbeatContext, LeaseHeartbeat
from worker.job_threads import JobThreads
from worker.parsed_job import ParsedJob, is_last_attempt
from worker.watchdog import ChildStatus

BATCH_CHECK_INTERVAL_S: Final = 0.2
"""How often to check, while jobs run, whether the head of the queue can run in the same batch."""
MAX_CONCURRENT_JOBS: Final = 64
"""The maximum number of jobs that run at the same time, even if their engine would accept more."""

logger = logging.getLogger(__name__)


def _ignore(head: Job | None) -> None:
    """Do nothing after a batch check."""


class Runner:
    """Runs jobs on one device, in the child process of a worker; keeps the engines between jobs.

    Parameters
    ----------
    kinds
        The kinds of job that the worker runs.
    name
        The name of the worker, as it is registered.
    status
        Shows the parent process that this process is alive.
    max_claim_loop_s
        How long one call of `run_queued_jobs` claims jobs.
    on_batch_check
        Called after each batch check. A batch check finds out whether one more job can run in the batch of the running
        jobs. The argument is the job at the head of the queue. It is ``None`` if the queue is empty, or if it was not
        read because no job may be added.
    """

    def __init__(  # noqa: PLR0913 - the properties of a worker, and two hooks
        self,
        services: Services,
        device: Device,
        kinds: Sequence[Kind],
        name: str,
        status: ChildStatus,
        *,
        max_claim_loop_s: float = MAX_CLAIM_LOOP_S,
        on_batch_check: Callable[[Job | None], None] = _ignore,
    ) -> None:
        self._services = services
        self._device = device
        self._kinds = kinds
        self._status = status
        self._max_claim_loop_s = max_claim_loop_s
        self._on_batch_check = on_batch_check
        settings = services.settings
        names = {kind: ENGINES[kind].choose_backend(device.device_class, settings).name for kind in kinds}
        self._identity = WorkerIdentity(names, device.device_class, name, settings.lease_s)
        self._engines: dict[Kind, Engine[Any]] = {kind: ENGINES[kind].make(device, settings) for kind in kinds}
        threads = ThreadPoolExecutor(2 * MAX_CONCURRENT_JOBS, "lease")
        self._heartbeats = HeartbeatContext(services.database, settings, status, name, threads)
        self._downloads = Downloads(services, device.device_class, self._engines)
        self._passed_over = False
        self._claim_until = 0.0
        self._last_parsed: ParsedJob | None = None

    def prepare(self) -> None:
        """Load what the first job of each kind would otherwise wait for."""
        for engine in self._engines.values():
            engine.prepare()

    def run_queued_jobs(self) -> None:
        """Claim and run queued jobs, best first, until none is left and no download is running.

        If the worker shuts down, or after ``max_claim_loop_s``, the method claims no further job. It sends a wake-up
        message for the jobs that are still queued, and returns.
        """
        self._status.mark_idle()
        self._claim_until = time.monotonic() + self._max_claim_loop_s
        row = self._claim()
        while row is not None or self._passed_over:
            try:
                if row is None:
                    self._wait_for_downloads()
                else:
                    row = self._run_group(self._parse(row))
            finally:
                self._status.mark_idle()
            if row is None:
                if not self._may_claim():
                    self._wake_again()
                    return
                row = self._claim()

    def _wait_for_downloads(self) -> None:
        """Wait before the next look at the queue, because the jobs that are left in it wait for downloads."""
        self._status.mark_alive()
        self._downloads.wait(BATCH_CHECK_INTERVAL_S)

    def _wake_again(self) -> None:
        """Send a wake-up message for the jobs that are still queued."""
        if self._last_parsed is not None:
            self._services.broker.wake(self._last_parsed.kind, self._device.device_class, self._last_parsed.row.id)

    def _may_claim(self) -> bool:
        return not self._status.shutting_down and time.monotonic() < self._claim_until

    def _claim(self) -> Job | None:
        """Claim the job at the head of the queue; jobs that wait for a download do not count."""
        if not self._downloads.possible:
            return transitions.claim(self._services.database, self._identity)
        while (head := self._find_head()) is not None:
            claimed = self._claim_by_id(head.row.id)
            if claimed is not None:  # otherwise another worker was faster
                return claimed
        return None

    def _claim_by_id(self, job_id: str) -> Job | None:
        return transitions.claim(self._services.database, self._identity, job_id)

    def _run_group(self, job: ParsedJob) -> Job | None:
        """Run a job and, while it runs, further jobs that can run in the same batch.

        Returns
        -------
        The job that was claimed when this job ended, which only happens if the engine runs one job at a time; ``None``
        if no job was claimed then.
        """
        engine = self._engines[job.kind]
        if not isinstance(engine, BatchingEngine):
            # The job runs in this thread: starting another thread takes longer than a short job.
            return self._run_job(job, claim_next=True)
        threads = JobThreads(partial(self._run_job, claim_next=False))
        threads.start(job)
        while threads.running:
            joined = self._claim_joinable(engine, threads.running)
            if joined is None:
                threads.wait(BATCH_CHECK_INTERVAL_S)
            else:
                threads.start(joined)
        return None

    def _claim_joinable(self, engine: BatchingEngine[Any], running: Sequence[ParsedJob]) -> ParsedJob | None:
        """Claim the job at the head of the queue if it can run in the same batch as the running jobs.

        The head of the queue is never skipped, unless it has to wait for a download: if the head is of another kind or
        needs another model, no job is added, and the head runs when the running
        jobs have ended. A job on its last attempt runs alone. So a job
        that kills its process on every attempt does not make other jobs fail.
        """
        head: ParsedJob | None = None
        try:
            if self._may_add_to(running):
                head = self._find_head()
            if head is None or not _can_batch(engine, head, running):
                return None
            claimed = self._claim_by_id(head.row.id)
            return None if claimed is None else ParsedJob(claimed, head.params)
        except SQLAlchemyError as error:
            logger.warning("no job can be added to the batch, the database does not answer: %s", error)
            return None
        finally:
            self._on_batch_check(None if head is None else head.row)

    def _may_add_to(self, running: Sequence[ParsedJob]) -> bool:
        full = len(running) >= MAX_CONCURRENT_JOBS
        return self._may_claim() and not full and not any(is_last_attempt(job.row) for job in running)

    def _find_head(self) -> ParsedJob | None:
        """Find the best queued job that this worker can run now, and start the downloads that better jobs need."""
        while True:
            missing = self._downloads.missing
            # A download that ends after this line ends too late for this look at the queue, so another one follows.
            self._passed_over = bool(missing)
            with self._services.database.reading() as session:
                row = queries.find_next_job(session, self._kinds, self._device.device_class, missing)
            if row is None:
                return None
            head = self._parse(row)
            if not self._downloads.start_for(head):
                return head

    def _parse(self, row: Job) -> ParsedJob:
        """Parse a job; if the last call parsed the same job, the parameters of that call are used again."""
        if self._last_parsed is None or self._last_parsed.row.id != row.id:
            self._last_parsed = ParsedJob.parse(row)
        return ParsedJob(row, self._last_parsed.params)

    def _run_job(self, job: ParsedJob, *, claim_next: bool) -> Job | None:
        """Run one attempt of a job and record its outcome.

        Parameters
        ----------
        claim_next
            Whether to claim the next job in the transaction that records the outcome.

        Returns
        -------
        The job that was claimed in that transaction, or ``None``.
        """
        row = job.row
        lease = Lease(row.id, row.attempt)
        with log_context(job=row.id, request=row.request_id):
            logger.info("job %s (%s) starts, attempt %d", row.id, row.kind, row.attempt)
            try:
                outcome = self._run_engine(job, lease)
                if outcome is None:
                    recorded, claimed = False, None
                else:
                    recorded, claimed = self._finish(lease, outcome, claim_next=claim_next)
            except Exception:
                logger.exception("job %s: its outcome cannot be recorded; it runs again after its lease", row.id)
                return None
            if outcome is None:
                logger.warning("job %s, attempt %d: ends without an outcome", row.id, row.attempt)
            elif recorded:
                logger.info("job %s %s", row.id, STATE_PHRASES[outcome.state])
            else:
                logger.warning("job %s, attempt %d: discarded, the lease was lost", row.id, row.attempt)
            return claimed

    def _run_engine(self, job: ParsedJob, lease: Lease) -> Outcome | None:
        """Run the engine while heartbeats keep the lease.

        Returns
        -------
        The outcome of the attempt, whether the job succeeded, failed, was cancelled or timed out. It is ``None`` if no
        outcome can be recorded, because the lease was lost or the database does not answer.
        """
        files = AttemptFiles(self._services.files, lease)
        with LeaseHeartbeat(self._heartbeats, lease, files) as heartbeat:
            try:
                params = job.require_params()
                with ExitStack() as copies:
                    uploads = self._copy_uploads(job.kind, params, copies)
                    checkpoint = StoredCheckpoint(self._services.files, lease)
                    context = JobContext(params, uploads, heartbeat.report, files.save, checkpoint, lease.job_id)
                    result = self._engines[job.kind].run(context)
                files.sync()
                return Outcome(State.SUCCEEDED, result=result, files=tuple(files.durable), progress=heartbeat.progress)
            except JobStoppedError:
                return heartbeat.outcome
            except SQLAlchemyError:
                logger.exception("job %s: the database does not answer; it runs again after its lease", lease.job_id)
                return None
            except Exception as error:  # noqa: BLE001 - the worker must survive any error of an engine
                if is_disk_full(error) and job.row.attempt < job.row.max_attempts:
                    logger.warning("job %s: the disk is full; it runs again later: %s", lease.job_id, error)
                    transitions.recover_lost(self._services.database, lease, self._services.settings.disk_full_delay)
                    return None
                failure = describe_failure(lease.job_id, error, self._services.settings.storage)
                return Outcome(State.FAILED, error=failure)

    def _copy_uploads(self, kind: Kind, params: Strict, copies: ExitStack) -> Mapping[str, Path]:
        """Make the uploads of a job available on this machine until ``copies`` is closed."""
        wanted = set(list_uploads(kind, params).values())
        if not wanted:
            return {}
        with self._services.database.reading() as session:
            found = queries.find_uploads(session, sorted(wanted))
        missing = wanted - set(found)
        if missing:
            raise _make_upload_missing(min(missing))
        paths: dict[str, Path] = {}
        for upload in found.values():
            try:
                paths[upload.id] = copies.enter_context(self._services.files.local_copy(upload.key))
            except FileNotFoundError as error:
                raise _make_upload_missing(upload.id) from error
        return paths

    def _finish(self, lease: Lease, outcome: Outcome, *, claim_next: bool) -> tuple[bool, Job | None]:
        """Record the outcome; if the database does not answer, retry until the lease must have expired.

        Returns
        -------
        recorded, claimed
            Whether the outcome was recorded, which requires that the lease was still held; and the job that was claimed
            in the same transaction, or ``None``.
        """
        database = self._services.database
        give_up_at = time.monotonic() + self._services.settings.lease_s
        while True:
            try:
                if claim_next and self._may_claim():
                    return self._finish_and_claim(lease, outcome)
                return transitions.finish(database, lease, outcome), None
            except OperationalError as error:
                if time.monotonic() > give_up_at:
                    raise
                logger.warning("job %s: not finished, the database does not answer: %s", lease.job_id, error)
                time.sleep(self._services.settings.heartbeat_s)
            except SQLAlchemyError:  # the database cannot store this result, so every retry would fail
                logger.exception("job %s: its outcome cannot be stored", lease.job_id)
                return transitions.finish(database, lease, Outcome(State.FAILED, error=UNEXPECTED)), None

    def _finish_and_claim(self, lease: Lease, outcome: Outcome) -> tuple[bool, Job | None]:
        database = self._services.database
        if not self._downloads.possible:
            return transitions.finish_and_claim(database, lease, outcome, self._identity)
        head = self._find_head()
        if head is None:
            return transitions.finish(database, lease, outcome), None
        return transitions.finish_and_claim(database, lease, outcome, self._identity, head.row.id)


def _can_batch(engine: BatchingEngine[Any], head: ParsedJob, running: Sequence[ParsedJob]) -> bool:
    if any(job.kind is not head.kind for job in running) or is_last_attempt(head.row, claimed=False):
        return False
    params = [job.params for job in (head, *running)]
    if any(isinstance(each, ValidationError) for each in params):
        return False
    return engine.can_batch(params[0], params[1:])


def _make_upload_missing(upload_id: str) -> JobFailedError:
    return JobFailedError("upload-missing", text("upload-missing", upload=upload_id))
