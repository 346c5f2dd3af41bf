"""One job from claim to end: claim → engine → files → row."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.errors import DiskFullError, JobFailedError, JobStoppedError, MindjobsError, is_disk_full
from shared.files.local import artifact_key
from shared.jobs import Kind, Lease, Outcome, State, StoredFile, WorkerIdentity, build_error
from shared.kinds import list_uploads, parse_params
from shared.logs import log_context
from shared.schemas.strict import Strict
from shared.services import Services
from shared.settings import MAX_CLAIM_LOOP_S
from shared.texts import text
from worker.checkpoint import StoredCheckpoint
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import BatchingEngine, Engine, JobContext
from worker.job_threads import JobThreads
from worker.lease import HeartbeatContext, LeaseHeartbeat
from worker.watchdog import ChildStatus

LOOK_EVERY_S: Final = 0.2
"""How often to look for a job that can join those that run."""
MAX_CONCURRENT_JOBS: Final = 64
"""How many jobs run side by side at most, whatever their engine thinks."""

logger = logging.getLogger(__name__)


class Runner:
    """Runs jobs on one device; lives in the worker's child, and keeps its engines between jobs.

    Parameters
    ----------
    kinds
        What it runs.
    name
        The worker's, as registered.
    pulse
        Tells the parent that this process lives.
    """

    def __init__(
        self, services: Services, device: Device, kinds: Sequence[Kind], name: str, pulse: ChildStatus
    ) -> None:
        self._services = services
        self._device = device
        self._kinds = kinds
        self._pulse = pulse
        names = {kind: ENGINES[kind].choose_backend(device.device_class, services.settings).name for kind in kinds}
        self._claimant = WorkerIdentity(names, device.device_class, name, services.settings.lease_s)
        self._engines: dict[Kind, Engine[Any]] = {}
        threads = ThreadPoolExecutor(MAX_CONCURRENT_JOBS, "lease")
        self._keeping = HeartbeatContext(services.database, services.settings, pulse, name, threads)

    def prepare(self, kind: Kind) -> None:
        """Load an engine before its first job."""
        self._get_engine(kind).prepare()

    def run_queued_jobs(self) -> None:
        """Claim the best queued job and bring it to its end, with those that join it meanwhile, until none waits.

        Or until the shift is over; then somebody else is rung for what is left.
        """
        over_at = time.monotonic() + MAX_CLAIM_LOOP_S
        job = self._claim()
        while job is not None:
            try:
                following = self._run_group(job, over_at)
            finally:
                self._pulse.rest()
            if following is None and self._is_over(over_at):
                self._services.broker.ring(Kind(job.kind), self._device.device_class, job.id)
                return
            job = following or self._claim()

    def _is_over(self, over_at: float) -> bool:
        return self._pulse.closing or time.monotonic() > over_at

    def _run_group(self, job: Job, over_at: float) -> Job | None:
        """Run a job and those that join it; return the one that was claimed as it ended, where none could join."""
        engine = self._engines.get(Kind(job.kind))
        if engine is not None and not isinstance(engine, BatchingEngine):
            return JobThreads(partial(self._bring_to_end, over_at=over_at)).run(job)
        crew = JobThreads(self._bring_to_end)
        crew.add(job)
        while crew.jobs:
            room = len(crew.jobs) < MAX_CONCURRENT_JOBS and time.monotonic() < over_at
            newcomer = self._claim_joinable(crew.jobs) if room else None
            if newcomer is None:
                crew.wait(LOOK_EVERY_S)
            else:
                crew.add(newcomer)
        return None

    def _claim(self, job_id: str | None = None) -> Job | None:
        return transitions.claim(self._services.database, self._claimant, job_id)

    def _claim_joinable(self, crew: Sequence[Job]) -> Job | None:
        """Claim the job whose turn it is, if it can run beside those that do.

        Nobody is overtaken: while another job's turn has come, of another kind or
        model, none joins, and it runs when these have ended. A job that is on its
        last attempt runs alone, so that one that takes its process with it is, at
        the latest then, the only one to fail.
        """
        kind = Kind(crew[0].kind)
        engine = self._engines.get(kind)
        if not isinstance(engine, BatchingEngine) or self._pulse.closing or any(map(is_last_attempt, crew)):
            return None
        try:
            with self._services.database.reading() as session:
                head = queries.find_next_job(session, self._kinds, self._device.device_class)
            if head is None or head.kind != kind or is_last_attempt(head, claimed=False):
                return None
            if not engine.can_batch(parse_params(kind, head.params), [parse_params(kind, job.params) for job in crew]):
                return None
            return self._claim(head.id)
        except SQLAlchemyError as error:
            logger.warning("nobody can join, the database does not answer: %s", error)
            return None

    def _bring_to_end(self, job: Job, over_at: float = 0.0) -> Job | None:
        """Attempt a job, and return the one that was claimed as it ended; none is once the shift is over."""
        with log_context(job=job.id, request=job.request_id):
            return self._attempt(job, over_at)

    def _attempt(self, job: Job, over_at: float) -> Job | None:
        logger.info("job %s (%s) starts, attempt %d", job.id, job.kind, job.attempt)
        lease = Lease(job.id, job.attempt)
        ending = self._run(job, lease)
        counted, following = self._finish(lease, ending, over_at) if ending is not None else (False, None)
        if counted and ending is not None:
            logger.info("job %s has %s", job.id, ending.state)
        else:
            logger.warning("job %s, attempt %d: discarded, the lease was lost", job.id, job.attempt)
        return following

    def _run(self, job: Job, lease: Lease) -> Outcome | None:
        """Run the engine under the lease; every way in which it can end becomes an ending."""
        files: list[StoredFile] = []

        def save(name: str, media_type: str, content: bytes) -> None:
            if any(file.name == name for file in files):
                raise ValueError(f"the engine saved {name!r} twice")
            written = self._services.storage.place(artifact_key(job.id, job.attempt, name), [content])
            files.append(StoredFile(name, written.path, media_type, written.bytes, written.sha256))

        with LeaseHeartbeat(self._keeping, lease) as keeper:
            try:
                engine = self._get_engine(Kind(job.kind))
                params = parse_params(job.kind, job.params)
                checkpoint = StoredCheckpoint(self._services.storage, lease)
                assignment = JobContext(params, self._locate_uploads(job, params), keeper.report, save, checkpoint)
                result = engine.run(assignment)
                self._services.storage.settle(file.path for file in files)
                return Outcome(State.SUCCEEDED, result=result, files=tuple(files), progress=keeper.progress)
            except JobStoppedError:
                return keeper.ending
            except SQLAlchemyError:
                logger.exception("job %s: the database does not answer; its lease runs out, and it runs again", job.id)
                return None
            except Exception as error:  # noqa: BLE001 - the worker must live on, whatever an engine does
                return Outcome(State.FAILED, error=self._explain(job, error))

    def _explain(self, job: Job, error: Exception) -> dict[str, Any]:
        """Return what the user reads about an error; the log has the rest."""
        if isinstance(error, JobFailedError):
            return _serialize_error(error)
        if isinstance(error, MemoryError):
            logger.error("job %s ran out of memory", job.id, exc_info=error)
            return _OUT_OF_MEMORY
        if is_disk_full(error):
            logger.error("job %s found the disk full", job.id, exc_info=error)
            return _serialize_error(DiskFullError(self._services.settings.storage))
        logger.error("job %s failed in a way that nobody foresaw", job.id, exc_info=error)
        return _UNEXPECTED

    def _finish(self, lease: Lease, ending: Outcome, over_at: float) -> tuple[bool, Job | None]:
        """Write the ending, for as long as the lease may still be ours while the database does not answer.

        Returns
        -------
        counted, following
            Whether it was still ours, and the job that was claimed with it.
        """
        give_up_at = time.monotonic() + self._services.settings.lease_s
        while True:
            try:
                if self._is_over(over_at):
                    return transitions.finish(self._services.database, lease, ending), None
                return transitions.finish_and_claim(self._services.database, lease, ending, self._claimant)
            except OperationalError as error:
                if time.monotonic() > give_up_at:
                    raise
                logger.warning("job %s: not finished, the database does not answer: %s", lease.job_id, error)
                time.sleep(self._services.settings.heartbeat_s)
            except SQLAlchemyError:  # a result that the database cannot hold: the same again each time
                logger.exception("job %s: its ending cannot be written", lease.job_id)
                failed = Outcome(State.FAILED, error=_UNEXPECTED)
                return transitions.finish(self._services.database, lease, failed), None

    def _get_engine(self, kind: Kind) -> Engine[Any]:
        if kind not in self._engines:
            self._engines[kind] = ENGINES[kind].make(self._device, self._services.settings)
        return self._engines[kind]

    def _locate_uploads(self, job: Job, params: Strict) -> Mapping[str, Path]:
        wanted = set(list_uploads(job.kind, params).values())
        if not wanted:
            return {}
        with self._services.database.reading() as session:
            uploads = queries.find_uploads(session, sorted(wanted))
        missing = wanted - set(uploads)
        if missing:
            raise JobFailedError("upload-missing", text("upload-missing", upload=min(missing)))
        return {upload.id: self._services.storage.locate(upload.path) for upload in uploads.values()}


def is_last_attempt(job: Job, *, claimed: bool = True) -> bool:
    """Tell whether a job that lost earlier attempts has, or will have once it is claimed, no other after this one."""
    attempt = job.attempt if claimed else job.attempt + 1
    return attempt > 1 and attempt >= job.max_attempts


def _serialize_error(error: MindjobsError) -> dict[str, Any]:
    return build_error(error.type, error.text.code, error.text.values)


_OUT_OF_MEMORY = build_error("out-of-memory", "out-of-memory")
_UNEXPECTED = build_error("internal-error", "engine-failed")
