"""The load: a thread that submits small jobs of both kinds and keeps a bounded number of them unended."""

import random
import threading
from typing import Any, Final

from tests.faults.client import PAUSE_S, Client
from tests.support.job_bodies import draw_knn, draw_music

BACKLOG: Final = 24
"""How many jobs are queued or running at the same time."""
MAX_ATTEMPTS: Final = 20
PROBE_PRIORITY: Final = 9
_KNN_SHARE: Final = 0.8
_MAX_TOKENS: Final = 20
MAX_RECOVERY_S: Final = 300.0
"""A service that has not recovered from a fault after this time counts as not recovered."""


def draw_job(random_: random.Random) -> dict[str, Any]:
    """Draw a small job, with a lower priority than a probe."""
    body = draw_knn(random_) if random_.random() < _KNN_SHARE else draw_music(random_, max_tokens=_MAX_TOKENS)
    return body | {"device": "cpu", "max_attempts": MAX_ATTEMPTS, "priority": random_.randint(0, PROBE_PRIORITY - 1)}


class Load(threading.Thread):
    """Submits jobs until there are enough, or until it is told to stop.

    Parameters
    ----------
    jobs
        How many jobs are submitted.
    """

    def __init__(self, client: Client, jobs: int, seed: str) -> None:
        super().__init__(name="load", daemon=True)
        self._client = client
        self._jobs = jobs
        self._random = random.Random(seed)  # noqa: S311 - to repeat a run, not to keep a secret
        self._stopped = threading.Event()
        self.acknowledged: list[str] = []
        self.unended = 0
        self.error: Exception | None = None
        """Why the thread has given up."""

    @property
    def ended(self) -> int:
        """How many jobs have ended, when the thread looked for the last time."""
        return len(self.acknowledged) - self.unended

    @property
    def is_complete(self) -> bool:
        """Whether all jobs are submitted."""
        return len(self.acknowledged) >= self._jobs

    def run(self) -> None:
        """Keep the backlog filled."""
        try:
            while not self._stopped.is_set():
                self._fill()
                self._stopped.wait(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - the campaign raises it in its own thread
            self.error = error

    def stop(self) -> None:
        """Submit no further job, and wait until the last submission was acknowledged."""
        self._stopped.set()
        self.join(MAX_RECOVERY_S)
        self._client.close()
        self.join()
        if self.error is not None:
            raise self.error

    def _fill(self) -> None:
        unended = self._client.ask_until_answered("/api/v1/jobs?state=queued&state=running&limit=100")
        if unended is None:
            return
        # Probes count as well, which only makes the backlog a little shorter for a moment.
        self.unended = len(unended["jobs"])
        for _ in range(min(BACKLOG - self.unended, self._jobs - len(self.acknowledged))):
            job_id = self._client.submit(draw_job(self._random))
            if job_id is None:
                return
            self.acknowledged.append(job_id)
            self.unended += 1
            if self._stopped.is_set():
                return
