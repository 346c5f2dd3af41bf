"""One part of a campaign: it runs an instance under load, injects one fault after another, and checks everything."""

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.jobs import ENDED, Kind, State
from tests.bench.progress import log_progress
from tests.faults import checks
from tests.faults.client import Client
from tests.faults.kinds import Fault
from tests.faults.load import MAX_ATTEMPTS, PROBE_PRIORITY, Load
from tests.faults.record import Record
from tests.faults.site import Site, open_site
from tests.support.job_bodies import draw_knn, draw_music
from tests.support.waiting import wait_until

MAX_RECOVERY_S: Final = 300.0
"""A service that has not recovered after this time counts as not recovered, and the part ends."""
_PROBE_TOKENS: Final = 5


@dataclass(frozen=True)
class Plan:
    """What a part does.

    Parameters
    ----------
    drawn
        All faults of the campaign, in order; the record says how many are done.
    max_s
        After this time, the part injects no further fault.
    min_fault_s, max_fault_s
        How long a fault lasts, if it lasts.
    """

    drawn: list[Fault]
    max_s: float
    min_fault_s: float = 2.0
    max_fault_s: float = 10.0


class Part:
    """A part, with its instance and its load."""

    def __init__(self, site: Site, record: Record, plan: Plan) -> None:
        self._site = site
        self._record = record
        self._plan = plan
        self._started_s = time.monotonic()
        self._pause = threading.Event()
        address = (site.settings.host, site.settings.port)
        self._client, self._load_client = Client(*address), Client(*address)
        seed = f"{record.seed} {record.acknowledged}"
        self._load = Load(self._load_client, record.jobs - record.acknowledged, seed)
        self._probes: list[str] = []
        self._done_before = record.acknowledged

    def run(self) -> None:
        """Inject faults until the time is over or all are done, and check everything."""
        try:
            self._probe(MAX_RECOVERY_S)
            log_progress("the instance runs jobs")
            self._load.start()
            self._inject_faults()
            self._load.stop()
            self._check()
        finally:
            self._client.close()
            self._load_client.close()

    def _inject_faults(self) -> None:
        drawn, record = self._plan.drawn, self._record
        while record.position < len(drawn):
            if not self._wait_for_jobs(record.position * record.jobs // len(drawn)):
                return
            if not self._inject(drawn[record.position]):
                return
            record.position += 1
        self._wait_for_jobs(record.jobs)

    def _wait_for_jobs(self, count: int) -> bool:
        """Wait until so many jobs of the campaign have ended, or all are submitted; return whether there is time."""

        def look() -> bool:
            if self._load.error is not None:
                raise self._load.error
            is_over = time.monotonic() - self._started_s > self._plan.max_s
            return is_over or self._load.is_complete or self._done_before + self._load.ended >= count

        wait_until(look, f"the end of {count} jobs", self._plan.max_s + MAX_RECOVERY_S)
        return time.monotonic() - self._started_s <= self._plan.max_s

    def _inject(self, fault: Fault) -> bool:
        """Inject a fault, and measure the recovery; return whether the service has recovered."""
        obstacle = fault.find_obstacle()
        if obstacle is not None:
            self._record.skipped[fault.name] = obstacle
            return True
        number = self._record.position
        random_ = random.Random(f"{self._record.seed} {number}")  # noqa: S311 - to repeat a campaign
        lasts_s = random_.uniform(self._plan.min_fault_s, self._plan.max_fault_s) if fault.lasts else 0.0
        with fault.inject(self._site, random_):
            self._pause.wait(lasts_s)
        try:
            recovery_s = self._probe(MAX_RECOVERY_S)
        except AssertionError as error:
            self._record.problems.append(f"no recovery from fault {number}, {fault.name}, {lasts_s:.1f} s: {error}")
            log_progress(self._record.problems[-1])
            return False
        self._record.recoveries_s.setdefault(fault.name, []).append(round(recovery_s, 3))
        done = self._done_before + self._load.ended
        log_progress(f"{done} jobs; fault {number}: {fault.name}, {lasts_s:.1f} s: recovered in {recovery_s:.1f} s")
        return True

    def _probe(self, deadline_s: float) -> float:
        """Submit a job of each kind and wait until both have ended; return how long this took."""
        started_s = time.monotonic()
        timer = threading.Timer(deadline_s, self._client.close)
        timer.start()
        try:
            submitted = [self._client.submit(body) for body in _make_probes()]
            self._probes += [job_id for job_id in submitted if job_id is not None]
            ended = [self._wait_for_end(job_id) for job_id in submitted if job_id is not None]
        finally:
            timer.cancel()
        if len(ended) < len(Kind) or not all(ended):
            raise AssertionError(f"the probes {submitted} have not ended within {deadline_s:g} s")
        return time.monotonic() - started_s

    def _wait_for_end(self, job_id: str) -> Any:
        """Wait until a job has ended, and return it; ``None`` if the client was closed before."""
        while True:
            job = self._client.ask_until_answered(f"/api/v1/jobs/{job_id}", Prefer="wait=5")
            if job is None or job["state"] in ENDED:
                return job

    def _check(self) -> None:
        log_progress("no more faults; the remaining jobs are awaited")
        checks.wait_for_all_jobs(self._site)
        succeeded = [kind for kind in Kind if self._runs(kind)]
        readiness: list[object] = []

        def look() -> bool:
            readiness[:] = [self._client.ask("/readyz")]
            return readiness == [(200, {"status": "ready"})]

        try:
            wait_until(look, "readiness", checks.HEALTH_S)
        except AssertionError as error:
            log_progress(str(error))
        self._record.problems += checks.check_health(self._site, *readiness, succeeded)
        checks.check_jobs(self._site, [*self._load.acknowledged, *self._probes], self._record)
        self._record.answers += self._client.answers + self._load_client.answers

    def _runs(self, kind: Kind) -> bool:
        """Return whether a new job of a kind succeeds."""
        body = next(body for body in _make_probes() if body["kind"] == kind)
        timer = threading.Timer(MAX_RECOVERY_S, self._client.close)
        timer.start()
        try:
            job_id = self._client.submit(body)
            if job_id is None:
                return False
            self._probes.append(job_id)
            job = self._wait_for_end(job_id)
        finally:
            timer.cancel()
        return job is not None and job["state"] == State.SUCCEEDED


def _make_probes() -> list[dict[str, Any]]:
    """Make a small job of each kind, which runs before the jobs of the load."""
    random_ = random.Random(0)  # noqa: S311 - always the same jobs
    bodies = (draw_knn(random_), draw_music(random_, max_tokens=_PROBE_TOKENS))
    return [body | {"device": "cpu", "max_attempts": MAX_ATTEMPTS, "priority": PROBE_PRIORITY} for body in bodies]


def run_part(record: Record, plan: Plan, logs: Path) -> None:
    """Run a part, and add its figures to the record."""
    started_s = time.monotonic()
    with open_site(logs) as site:
        Part(site, record, plan).run()
    log_progress(f"the part took {(time.monotonic() - started_s) / 60:.1f} min")
