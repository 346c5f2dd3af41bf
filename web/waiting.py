"""Long polls: answer when something has happened, or when the time is up."""

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.services import Services
from web.documents import JobView, view_job

# A short job is noticed at once, and a long one costs two look-ups a second.
FIRST_PAUSE_S: Final = 0.02
PAUSE_MOST_S: Final = 0.5
GROWTH: Final = 1.3


class WaitingRoom:
    """Lets some requests wait; the others are answered at once, so that waiting never takes the last thread.

    Parameters
    ----------
    seats
        How many may wait in this process.
    """

    def __init__(self, seats: int) -> None:
        self._seats = threading.BoundedSemaphore(seats)

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
        if not wait_s or not self._seats.acquire(blocking=False):
            return _look_until(services, job_id, 0, enough), 0
        try:
            return _look_until(services, job_id, wait_s, enough), wait_s
        finally:
            self._seats.release()


def _look_until(services: Services, job_id: str, wait_s: float, enough: Callable[[JobView], bool]) -> JobView:
    give_up_at = time.monotonic() + wait_s
    pause_s = FIRST_PAUSE_S
    while True:
        with services.database.reading() as session:
            view = view_job(session, job_id)
        left_s = give_up_at - time.monotonic()
        if enough(view) or view.ended or left_s <= 0:
            return view
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * GROWTH, PAUSE_MOST_S)
