"""The jobs of one batch, which run at the same time in a worker's child process."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from worker.parsed_job import ParsedJob

logger = logging.getLogger(__name__)


class JobThreads:
    """Runs each job in a thread of its own.

    Unlike the threads of an executor, these threads are daemons: a process
    that must end at once does not wait for them.

    Parameters
    ----------
    run_job
        Runs one job to its end.
    """

    def __init__(self, run_job: Callable[[ParsedJob], object]) -> None:
        self._run_job = run_job
        self._running: dict[Future[None], ParsedJob] = {}

    @property
    def running(self) -> list[ParsedJob]:
        """The jobs that were started, except those that had ended at the last call of `wait`."""
        return [*self._running.values()]

    def start(self, job: ParsedJob) -> None:
        """Start a job."""
        ended: Future[None] = Future()
        self._running[ended] = job
        threading.Thread(target=self._run, args=(job, ended), name=f"job {job.row.id}", daemon=True).start()

    def wait(self, timeout_s: float) -> None:
        """Wait until a running job has ended, or the timeout is over."""
        for ended in wait(self._running, timeout_s, FIRST_COMPLETED).done:
            del self._running[ended]

    def _run(self, job: ParsedJob, ended: Future[None]) -> None:
        try:
            self._run_job(job)
        finally:
            ended.set_result(None)
