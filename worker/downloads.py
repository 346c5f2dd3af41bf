"""Downloads in the background what queued jobs need, so that no job holds its worker while it waits for a download."""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from shared.database import queries, transitions
from shared.errors import JobFailedError, JobStoppedError
from shared.jobs import DeviceClass, Kind, Need, Outcome, Progress, State
from shared.services import Services
from shared.texts import text
from worker.engines.interface import DownloadingEngine, Engine
from worker.failures import UNEXPECTED, describe_failure
from worker.parsed_job import ParsedJob

MAX_DOWNLOADS: Final = 3
"""How many downloads run at the same time in a worker; further downloads wait."""

logger = logging.getLogger(__name__)


class Downloads:
    """The downloads of a worker.

    The jobs that wait for a download stay in the queue, where another worker that has what they need may claim them.
    This worker passes them over until the download ends. If the download fails, they fail. A download is stopped if no
    job waits for it any more. Nothing is lost if this process is killed: the jobs are in the queue, and the next
    download continues from the bytes that are stored.

    Parameters
    ----------
    engines
        The engines of the worker; some of them may download nothing.
    """

    def __init__(self, services: Services, device: DeviceClass, engines: Mapping[Kind, Engine[Any]]) -> None:
        self._services = services
        self._device = device
        self._engines = {kind: engine for kind, engine in engines.items() if isinstance(engine, DownloadingEngine)}
        self._slots = threading.BoundedSemaphore(MAX_DOWNLOADS)
        self._running: dict[Need, Future[None]] = {}

    @property
    def possible(self) -> bool:
        """Whether any engine of the worker downloads anything."""
        return bool(self._engines)

    @property
    def missing(self) -> list[Need]:
        """What is being downloaded, or waits to be downloaded."""
        self._running = {need: ended for need, ended in self._running.items() if not ended.done()}
        return [*self._running]

    def start_for(self, job: ParsedJob) -> bool:
        """Start a download if a job needs one.

        Returns
        -------
        Whether the job has to wait for a download.
        """
        engine = self._engines.get(job.kind)
        name = None if engine is None or isinstance(job.params, Exception) else engine.find_missing(job.params)
        if engine is None or name is None:
            return False
        need = Need(job.kind, engine.downloaded_parameter, name)
        if need not in self.missing:
            logger.info("job %s waits for the download of %s", job.row.id, name)
            ended: Future[None] = Future()
            self._running[need] = ended
            # The thread is a daemon: a process that must end does not wait for it.
            threading.Thread(target=self._run, args=(engine, need, ended), name=f"download {name}", daemon=True).start()
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait until a download has ended, or the timeout is over."""
        wait(self._running.values(), timeout_s, FIRST_COMPLETED)

    def _run(self, engine: DownloadingEngine[Any], need: Need, ended: Future[None]) -> None:
        try:
            with self._slots:
                self._download(engine, need)
        except SQLAlchemyError as error:  # the jobs are still queued, so the download is started again
            logger.warning("the download of %s was given up, the database does not answer: %s", need.name, error)
        finally:
            ended.set_result(None)

    def _download(self, engine: DownloadingEngine[Any], need: Need) -> None:
        with self._services.database.reading() as session:
            keep = queries.list_needed_names(session, need.kind, need.parameter)
        reporter = _Reporter(self._services, need, self._device)
        try:
            engine.download(need.name, keep, reporter)
        except JobStoppedError:
            logger.info("the download of %s is stopped: no job waits for it any more", need.name)
        except JobFailedError as error:
            logger.warning("the download of %s failed: %s", need.name, error.detail)
            self._fail_jobs(need, describe_failure(need.name, error, self._services.settings.storage))
        except Exception:
            logger.exception("the download of %s failed with an unexpected error", need.name)
            self._fail_jobs(need, UNEXPECTED)
        else:
            logger.info("%s is downloaded", need.name)

    def _fail_jobs(self, need: Need, error: Mapping[str, Any]) -> None:
        outcome = Outcome(State.FAILED, error=error)
        for job in transitions.fail_waiting(self._services.database, need, self._device, outcome):
            logger.info("job %s has %s, it needed %s", job.id, job.state, need.name)


class _Reporter:
    """Writes the progress of a download to the jobs that wait for it, at the interval of heartbeats."""

    def __init__(self, services: Services, need: Need, device: DeviceClass) -> None:
        self._database = services.database
        self._interval_s = services.settings.heartbeat_s
        self._need = need
        self._device = device
        self._written: Progress | None = None
        self._next_at = 0.0

    def __call__(self, *, stage: str, done: int, total: int, unit: str) -> None:
        """Accept the progress; see ``worker.engines.interface.DownloadingEngine``."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + self._interval_s
        progress = Progress(stage, done, total, unit)
        changed = progress != self._written
        try:
            wanted = transitions.show_download(self._database, self._need, self._device, progress, changed=changed)
        except SQLAlchemyError as error:
            logger.warning("no progress of %s, the database does not answer: %s", self._need.name, error)
            return
        self._written = progress
        if not wanted:
            raise JobStoppedError(text("job-must-stop", reason="unwanted"))
