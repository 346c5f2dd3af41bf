"""The jobs that run side by side in a worker's child."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from shared.database.tables import Job

logger = logging.getLogger(__name__)


class JobThreads:
    """Jobs, each in a thread of its own.

    The threads are daemons, unlike an executor's: a process that is told to end
    at once does not wait for them.

    Parameters
    ----------
    work
        What is done with each job; it returns one that it has claimed.
    """

    def __init__(self, work: Callable[[Job], Job | None]) -> None:
        self._work = work
        self._running: dict[Future[None], Job] = {}

    @property
    def jobs(self) -> list[Job]:
        """Those that run."""
        return [*self._running.values()]

    def add(self, job: Job) -> None:
        """Start a job."""
        done: Future[None] = Future()
        self._running[done] = job
        threading.Thread(target=self._run, args=(job, done), name=f"job {job.id}", daemon=True).start()

    def run(self, job: Job) -> Job | None:
        """Run a job that none will join, in the caller's thread: another would take longer than a short job's path."""
        return self._run(job, Future())

    def wait(self, timeout_s: float) -> None:
        """Wait until one has ended."""
        for ended in wait(self._running, timeout_s, FIRST_COMPLETED).done:
            del self._running[ended]

    def _run(self, job: Job, done: Future[None]) -> Job | None:
        try:
            return self._work(job)
        except Exception:
            logger.exception("job %s is left to its lease, which runs out", job.id)
            return None
        finally:
            done.set_result(None)
