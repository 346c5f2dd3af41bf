"""One job from claim to end: claim → engine → files → row."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared import queries, transitions
from shared.errors import DiskFullError, JobFailedError, JobStoppedError, MindjobsError, is_disk_full
from shared.jobs import Ending, Kind, Lease, State, StoredFile, make_error
from shared.schemas.submission import PARAMS, name_uploads
from shared.services import Services
from shared.storage import place_artifact
from shared.tables import Job
from worker import registry
from worker.checkpoint import StoredCheckpoint
from worker.devices import Device
from worker.engines.contract import Assignment, Engine
from worker.lease import LeaseKeeper
from worker.watchdog import Pulse

logger = logging.getLogger(__name__)


class Runner:
    """Runs jobs on one device; lives in the worker's child, and keeps its engines between jobs.

    Parameters
    ----------
    name
        The worker's, as registered.
    pulse
        Tells the parent that this process lives.
    """

    def __init__(self, services: Services, device: Device, name: str, pulse: Pulse) -> None:
        self._services = services
        self._device = device
        self._name = name
        self._pulse = pulse
        self._engines: dict[Kind, Engine] = {}

    def prepare(self, kind: Kind) -> None:
        """Load an engine before its first job."""
        self._get_engine(kind).prepare()

    def run_next(self, kind: Kind) -> None:
        """Claim the best queued job of a kind and bring it to its end; return at once where none waits."""
        job = transitions.claim(
            self._services.database,
            kind=kind,
            device=self._device.device_class,
            worker=self._name,
            engine=registry.name_engine(kind, self._services.settings),
            lease_s=self._services.settings.lease_s,
        )
        if job is None:
            return
        logger.info("job %s (%s) starts, attempt %d", job.id, kind, job.attempt)
        lease = Lease(job.id, job.attempt)
        ending = self._run(job, lease)
        counted = ending is not None and self._finish(lease, ending)
        if counted and ending is not None:
            logger.info("job %s has %s", job.id, ending.state)
        else:
            logger.warning("job %s, attempt %d: discarded, the lease was lost", job.id, job.attempt)

    def _run(self, job: Job, lease: Lease) -> Ending | None:
        """Run the engine under the lease; every way in which it can end becomes an ending."""
        files: list[StoredFile] = []

        def save(name: str, media_type: str, content: bytes) -> None:
            if any(file.name == name for file in files):
                raise ValueError(f"the engine saved {name!r} twice")
            written = self._services.storage.write(place_artifact(job.id, job.attempt, name), [content])
            files.append(StoredFile(name, written.path, media_type, written.bytes, written.sha256))

        with LeaseKeeper(self._services.database, lease, self._services.settings, self._pulse) as keeper:
            try:
                engine = self._get_engine(Kind(job.kind))
                checkpoint = StoredCheckpoint(self._services.storage, lease)
                assignment = Assignment(job.params, self._locate_uploads(job), keeper.report, save, checkpoint)
                result = engine.run(assignment)
                return Ending(State.SUCCEEDED, result=result, files=tuple(files), progress=keeper.progress)
            except JobStoppedError:
                return keeper.ending
            except SQLAlchemyError:
                logger.exception("job %s: the database does not answer; its lease runs out, and it runs again", job.id)
                return None
            except Exception as error:  # noqa: BLE001 - the worker must live on, whatever an engine does
                return Ending(State.FAILED, error=self._explain(job, error))

    def _explain(self, job: Job, error: Exception) -> dict[str, str]:
        """Return what the user reads about an error; the log has the rest."""
        if isinstance(error, JobFailedError):
            return _write_error(error)
        if isinstance(error, MemoryError):
            logger.error("job %s ran out of memory", job.id, exc_info=error)
            return _OUT_OF_MEMORY
        if is_disk_full(error):
            logger.error("job %s found the disk full", job.id, exc_info=error)
            return _write_error(DiskFullError(self._services.settings.storage))
        logger.error("job %s failed in a way that nobody foresaw", job.id, exc_info=error)
        return _UNFORESEEN

    def _finish(self, lease: Lease, ending: Ending) -> bool:
        """Write the ending, for as long as the lease may still be ours while the database does not answer."""
        give_up_at = time.monotonic() + self._services.settings.lease_s
        while True:
            try:
                return transitions.finish(self._services.database, lease, ending)
            except OperationalError as error:
                if time.monotonic() > give_up_at:
                    raise
                logger.warning("job %s: not finished, the database does not answer: %s", lease.job_id, error)
                time.sleep(self._services.settings.beat_s)
            except SQLAlchemyError:  # a result that the database cannot hold: the same again each time
                logger.exception("job %s: its ending cannot be written", lease.job_id)
                return transitions.finish(self._services.database, lease, Ending(State.FAILED, error=_UNFORESEEN))

    def _get_engine(self, kind: Kind) -> Engine:
        if kind not in self._engines:
            self._engines[kind] = registry.make_engine(kind, self._device, self._services.settings)
        return self._engines[kind]

    def _locate_uploads(self, job: Job) -> Mapping[str, Path]:
        wanted = set(name_uploads(PARAMS[Kind(job.kind)].model_validate(job.params)).values())
        with self._services.database.reading() as session:
            uploads = queries.find_uploads(session, sorted(wanted))
        missing = wanted - set(uploads)
        if missing:
            raise JobFailedError(
                "upload-missing",
                "An upload is gone",
                f"The upload {min(missing)} no longer exists; upload the file again and submit a new job.",
            )
        return {upload.id: self._services.storage.locate(upload.path) for upload in uploads.values()}


def _write_error(error: MindjobsError) -> dict[str, str]:
    return make_error(error.type, error.title, error.detail)


_OUT_OF_MEMORY = make_error(
    "out-of-memory", "The job needs more memory than there is", "Make the data or the request smaller and try again."
)
_UNFORESEEN = make_error(
    "internal-error",
    "The engine failed",
    "Something went wrong that is not the job's fault; the log of the worker says what. Retrying may help.",
)
