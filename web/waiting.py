"""Long polls: answer when something has happened, or when the time is up."""

import time
from collections.abc import Callable
from itertools import accumulate, repeat
from typing import Final

from shared.services import Services
from web.documents import JobView, view_job

# A short job is noticed at once, and a long one costs two look-ups a second.
FIRST_PAUSE_S: Final = 0.02
PAUSE_MOST_S: Final = 0.5
GROWTH: Final = 1.3


def wait_for(services: Services, job_id: str, wait_s: float, enough: Callable[[JobView], bool]) -> JobView:
    """Look at a job until it is as wanted, or ``wait_s`` have passed.

    Parameters
    ----------
    enough
        Whether a view of the job is worth an answer.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    give_up_at = time.monotonic() + wait_s
    for pause_s in accumulate(
        repeat(GROWTH), lambda pause, growth: min(pause * growth, PAUSE_MOST_S), initial=FIRST_PAUSE_S
    ):
        with services.database.reading() as session:
            view = view_job(session, job_id)
        left_s = give_up_at - time.monotonic()
        if enough(view) or view.ended or left_s <= 0:
            return view
        time.sleep(min(pause_s, left_s))
    raise AssertionError("the pauses never end")
