"""One part of a campaign: it runs instances under load, injects one fault after another, and checks everything."""

import itertools
import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from shared.jobs import ENDED, Kind
from tests.bench.progress import log_progress
from tests.faults import checks
from tests.faults.client import Client
from tests.faults.kinds import Fault
from tests.faults.load import MAX_ATTEMPTS, MAX_RECOVERY_S, PROBE_PRIORITY, Load
from tests.faults.record import Record
from tests.faults.site import Site, open_site
from tests.support.job_bodies import draw_knn, draw_music
from tests.support.waiting import wait_until

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


class Session:
    """The time of one instance, with its load.

    Parameters
    ----------
    faults
        How many of the next faults are injected; without a fault, all remaining jobs are run.
    end_s
        After this time, no further fault is injected.
    """

    def __init__(self, site: Site, record: Record, plan: Plan, faults: int, end_s: float) -> None:
        self._site = site
        self._record = record
        self._plan = plan
        self._end_s = end_s
        self._last = record.position + faults
        self._pause = threading.Event()
        address = (site.settings.host, site.settings.port, site.surroundings.key)
        self._client, self._load_client = Client(*address), Client(*address)
        seed = f"{record.seed} {record.acknowledged}"
        self._load = Load(self._load_client, record.jobs - record.acknowledged, seed)
        self._probes: list[str] = []
        self._done_before = record.acknowledged

    def run(self) -> None:
        """Inject faults until the time is over or all are done, and check everything."""
        try:
            if self._probe() is None:
                raise RuntimeError(f"the instance runs no job; see {self._site.surroundings.logs}")
            self._client.answers.clear()  # without the requests to an instance that was starting
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
        while record.position < self._last:
            if not self._wait_for_jobs(record.position * record.jobs // len(drawn)):
                return
            has_recovered = self._inject(drawn[record.position])
            record.position += 1
            if not has_recovered:
                return
        if record.position == len(drawn):
            self._wait_for_jobs(record.jobs)

    def _wait_for_jobs(self, count: int) -> bool:
        """Wait until so many jobs of the campaign have ended, or all are submitted; return whether there is time."""

        def look() -> bool:
            if self._load.error is not None:
                raise self._load.error
            is_over = time.monotonic() > self._end_s
            return is_over or self._load.is_complete or self._done_before + self._load.ended >= count

        wait_until(look, f"the end of {count} jobs", self._plan.max_s + MAX_RECOVERY_S)
        return time.monotonic() <= self._end_s

    def _inject(self, fault: Fault) -> bool:
        """Inject a fault, and measure the recovery; return whether the service has recovered."""
        number = self._record.position
        random_ = random.Random(f"{self._record.seed} {number}")  # noqa: S311 - to repeat a campaign
        lasts_s = random_.uniform(self._plan.min_fault_s, self._plan.max_fault_s) if fault.lasts else 0.0
        try:
            with fault.inject(self._site, random_):
                self._pause.wait(lasts_s)
            recovery_s = self._probe()
        except AssertionError as error:  # a process that the fault needs has not come back after an earlier fault
            log_progress(str(error))
            recovery_s = None
        if recovery_s is None:
            problem = f"no recovery within {MAX_RECOVERY_S:g} s from fault {number}, {fault.name}, {lasts_s:.1f} s"
            self._record.problems.append(problem)
            log_progress(problem)
            return False
        self._record.recoveries_s.setdefault(fault.name, []).append(round(recovery_s, 3))
        done = self._done_before + self._load.ended
        log_progress(f"{done} jobs; fault {number}: {fault.name}, {lasts_s:.1f} s: recovered in {recovery_s:.1f} s")
        return True

    def _probe(self) -> float | None:
        """Run a job of each kind; return how long this took, or ``None`` if it took too long."""
        started_s = time.monotonic()
        give_up_at_s = started_s + MAX_RECOVERY_S
        submitted = {kind: self._client.submit(body, give_up_at_s=give_up_at_s) for kind, body in make_probes().items()}
        ids = [job_id for job_id in submitted.values() if job_id is not None]
        self._probes += ids
        if len(ids) == len(submitted) and all(self._has_ended(job_id, give_up_at_s) for job_id in ids):
            return time.monotonic() - started_s
        return None

    def _has_ended(self, job_id: str, give_up_at_s: float) -> bool:
        """Wait until a job has ended; return whether it has ended in time."""
        while True:
            path = f"/api/v1/jobs/{job_id}"
            job = self._client.ask_until_answered(path, give_up_at_s=give_up_at_s, Prefer="wait=5")
            if job is None or job["state"] in ENDED:
                return job is not None

    def _check(self) -> None:
        log_progress("no more faults; the remaining jobs are awaited")
        checks.wait_for_all_jobs(self._site)
        self._record.problems += checks.check_health(self._site, lambda: self._client.ask("/readyz"))
        if self._probe() is None:
            self._record.problems.append("at the end, new jobs do not run")
        checks.check_jobs(self._site, [*self._load.acknowledged, *self._probes], self._record)
        answers = self._client.answers + self._load_client.answers
        self._record.answers += answers
        if internal_errors := answers[str(HTTPStatus.INTERNAL_SERVER_ERROR.value)]:
            logs = self._site.surroundings.logs
            self._record.problems.append(f"{internal_errors} requests were answered with 500; see {logs.name}")


def make_probes() -> dict[Kind, dict[str, Any]]:
    """Make a small job of each kind, which runs before the jobs of the load."""
    random_ = random.Random(0)  # noqa: S311 - always the same jobs
    bodies = {Kind.KNN: draw_knn(random_), Kind.MUSICGEN: draw_music(random_, max_tokens=_PROBE_TOKENS)}
    more = {"device": "cpu", "max_attempts": MAX_ATTEMPTS, "priority": PROBE_PRIORITY}
    return {kind: body | more for kind, body in bodies.items()}


def run_part(record: Record, plan: Plan, logs: Path, save: Callable[[], None]) -> None:
    """Run a part, and add its figures to the record.

    Parameters
    ----------
    save
        Is called after each instance, when everything that the record contains has been checked.
    """
    started_s = time.monotonic()
    end_s = started_s + plan.max_s
    # One folder for all instances, since pgserver keeps the lock of every server in the folder of the first.
    with tempfile.TemporaryDirectory(prefix="mj-faults-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user if this is root
        while not record.is_complete and time.monotonic() < end_s:
            faults = _list_next(record, plan.drawn)
            obstacle = faults[0].find_obstacle() if faults else None
            if obstacle is not None:
                record.skipped[faults[0].name] = obstacle
                record.position += 1
                continue
            name = f"from-fault-{record.position}"
            is_remote = bool(faults) and faults[0].is_remote
            with open_site(Path(folder, name), logs / name, is_remote=is_remote) as site:
                Session(site, record, plan, len(faults), end_s).run()
            save()
    log_progress(f"the part took {(time.monotonic() - started_s) / 60:.1f} min")


def _list_next(record: Record, drawn: list[Fault]) -> list[Fault]:
    """List the next faults for the same instance: up to one that needs another instance, or that cannot be injected."""
    remaining = drawn[record.position :]

    def fits(fault: Fault) -> bool:
        return fault.is_remote == remaining[0].is_remote and fault.find_obstacle() is None

    return list(itertools.takewhile(fits, remaining)) or remaining[:1]
