"""Requests that wait: long polls, which are answered when the job has changed or the time is up, and event streams."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flask import request

from shared.services import Services
from web.serializers import JobView, view_job

MAX_WAIT_S: Final = 60
WAITING_SHARE: Final = 0.5
"""The share of a process's threads that may wait. The other threads stay free for requests that do not wait."""
FIRST_INTERVAL_S: Final = 0.02
MAX_INTERVAL_S: Final = 1.0
"""As often as a worker writes the progress. With 128 event streams on PostgreSQL, the p99 of a poll is 14 to 38 ms;
with reads twice as often it was 73 to 117 ms."""
GROWTH: Final = 1.3
SPREAD: Final = 0.5
"""How much an interval may differ at random, as a share of it: requests that began together would otherwise always read
together. With 64 event streams on PostgreSQL, the p99 of a poll fell from 193 ms to between 40 and 133 ms."""
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d++)\"?\s*(?:$|[,;])", re.IGNORECASE | re.ASCII)


def read_wait_s() -> int:
    """Return the seconds to wait from the header ``Prefer: wait=N`` (RFC 7240), at most `MAX_WAIT_S`.

    Without the header, return 0.
    """
    found = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    if not found:
        return 0
    # The number may have more digits than Python converts; the first three decide whether it is above the maximum.
    return min(int(found[1].lstrip("0")[:3] or "0"), MAX_WAIT_S)


def iter_poll_intervals() -> Iterator[float]:
    """Yield the seconds to wait before each read of a job.

    The intervals grow: the end of a short job is noticed at once, and a long job costs only one read a second.
    """
    interval_s = FIRST_INTERVAL_S
    while True:
        yield interval_s * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret depends on it
        interval_s = min(interval_s * GROWTH, MAX_INTERVAL_S)


class LongPollSlots:
    """Lets a limited number of requests wait, so that waiting never uses every thread of the process.

    A request that gets no slot does not wait.

    Parameters
    ----------
    threads
        The number of threads of this process. The share `WAITING_SHARE` of these threads may wait, but at least one
        thread.
    """

    def __init__(self, threads: int) -> None:
        self._slots = threading.BoundedSemaphore(max(1, int(threads * WAITING_SHARE)))

    @contextmanager
    def reserve(self) -> Iterator[bool]:
        """Hold a slot while the block runs, and yield whether a slot was free."""
        reserved = self._slots.acquire(blocking=False)
        try:
            yield reserved
        finally:
            if reserved:
                self._slots.release()

    def wait_for(
        self, services: Services, job_id: str, wait_s: int, condition: Callable[[JobView], bool]
    ) -> tuple[JobView, int]:
        """Read a job repeatedly until the job meets a condition or has ended, or until ``wait_s`` seconds have passed.

        Parameters
        ----------
        condition
            Returns whether a view of the job should be sent to the client now.

        Returns
        -------
        view, granted_s
            The last view of the job, and the time that the request was allowed to wait: ``wait_s``, or 0 if no slot
            was free. In that case the job was read only once.

        Raises
        ------
        NotFoundError
            There is no such job.
        """
        if not wait_s:
            return _poll(services, job_id, 0, condition), 0
        with self.reserve() as reserved:
            granted_s = wait_s if reserved else 0
            return _poll(services, job_id, granted_s, condition), granted_s


def _poll(services: Services, job_id: str, wait_s: float, condition: Callable[[JobView], bool]) -> JobView:
    deadline = time.monotonic() + wait_s
    intervals_s = iter_poll_intervals()
    while True:
        with services.database.reading() as session:
            view = view_job(session, job_id)
        remaining_s = deadline - time.monotonic()
        if condition(view) or view.ended or remaining_s <= 0:
            return view
        time.sleep(min(next(intervals_s), remaining_s))
