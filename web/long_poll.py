"""Requests that stay: long polls, answered when something has happened or the time is up, and event streams."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from shared.services import Services
from web.serializers import JobView, view_job

FIRST_PAUSE_S: Final = 0.02
MAX_PAUSE_S: Final = 0.5
GROWTH: Final = 1.3


def poll_intervals() -> Iterator[float]:
    """Tell how long to pause before each look: a short job is noticed at once, a long one costs two looks a second."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * GROWTH, MAX_PAUSE_S)


class LongPollSlots:
    """Lets some requests stay; the others are answered at once, so that waiting never takes the last thread.

    Parameters
    ----------
    seats
        How many may stay in this process.
    """

    def __init__(self, seats: int) -> None:
        self._seats = threading.BoundedSemaphore(seats)

    @contextmanager
    def sit(self) -> Iterator[bool]:
        """Take a seat for as long as the block runs, and tell whether one was free."""
        seated = self._seats.acquire(blocking=False)
        try:
            yield seated
        finally:
            if seated:
                self._seats.release()

    def wait_for(
        self, services: Services, job_id: str, wait_s: int, enough: Callable[[JobView], bool]
    ) -> tuple[JobView, int]:
        """Look at a job until it is as wanted, or ``wait_s`` have passed.

        Parameters
        ----------
        enough
            Whether a view of the job is worth an answer.

        Returns
        -------
        view, granted_s
            The last look, and ``wait_s``, or 0 where no seat was free and the first look is the last.

        Raises
        ------
        NotFoundError
            There is no such job.
        """
        if not wait_s:
            return _look_until(services, job_id, 0, enough), 0
        with self.sit() as seated:
            granted_s = wait_s if seated else 0
            return _look_until(services, job_id, granted_s, enough), granted_s


def _look_until(services: Services, job_id: str, wait_s: float, enough: Callable[[JobView], bool]) -> JobView:
    give_up_at = time.monotonic() + wait_s
    pauses_s = poll_intervals()
    while True:
        with services.database.reading() as session:
            view = view_job(session, job_id)
        left_s = give_up_at - time.monotonic()
        if enough(view) or view.ended or left_s <= 0:
            return view
        time.sleep(min(next(pauses_s), left_s))
