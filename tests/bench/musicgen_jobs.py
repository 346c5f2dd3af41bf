"""How long jobs take that are queued at once, through a real worker, beside one after another."""

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import select

from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.database.tables import Job
from shared.jobs import Kind
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.bench.jobs import run_worker, wait_for_end
from tests.bench.musicgen_ratios import FASTEST
from tests.bench.own_model import NAME
from tests.bench.positions import PROMPT
from tests.bench.progress import tell
from tests.bench.section import Ratio, Section, count_repeats, write_table
from tests.support.servers import RedisServer

CROWDS: Final = (1, 2, 4, 8, 16)
"""How many jobs are queued at once."""
JUDGED: Final = 8
MAX_TOTAL_RATIO: Final = 0.45
MAX_MEAN_RATIO: Final = 0.6
REPEATS: Final = 5
DEADLINE_S: Final = 1_800.0


@dataclass
class Crowds:
    """What was measured, in seconds from submission.

    Parameters
    ----------
    total_s
        Number of jobs to when the last one ended, of each repeat.
    mean_s
        The same to when one ended on average.
    """

    total_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    mean_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def find_total_s(self, jobs: int) -> float:
        """Return the median of when the last one ended."""
        return statistics.median(self.total_s[jobs])

    def find_mean_s(self, jobs: int) -> float:
        """Return the median of when one ended on average."""
        return statistics.median(self.mean_s[jobs])

    def compare_total(self, jobs: int) -> float:
        """Divide by the time that so many take one after another."""
        return self.find_total_s(jobs) / (jobs * self.find_total_s(1))

    def compare_mean(self, jobs: int) -> float:
        """Divide by when one ends on average that is queued behind the others, one after another."""
        return self.find_mean_s(jobs) / ((jobs + 1) / 2 * self.find_total_s(1))


def run(folder: Path, kept: Path, duration_s: float, alone_s: float) -> Section:
    """Measure.

    Parameters
    ----------
    folder
        The model's.
    kept
        Where compiled graphs are kept.
    alone_s
        What such a job takes without a worker, the engine alone.
    """
    repeats, crowds = count_repeats(REPEATS), Crowds()
    with _serve(folder, kept) as services:
        _submit_and_wait(services, 1, 1.0)  # loads the model
        for repeat in range(repeats):
            for jobs in CROWDS:
                tell(f"{jobs} jobs at once, repeat {repeat + 1} of {repeats}")
                ends_s = _submit_and_wait(services, jobs, duration_s)
                crowds.total_s[jobs].append(max(ends_s))
                crowds.mean_s[jobs].append(statistics.mean(ends_s))
    return write_section(crowds, duration_s, alone_s, repeats)


def write_section(crowds: Crowds, duration_s: float, alone_s: float, repeats: int) -> Section:
    """Write what was measured."""
    total, mean = crowds.compare_total(JUDGED), crowds.compare_mean(JUDGED)
    ratios = [
        Ratio(f"{JUDGED} jobs queued at once / one after another", total, MAX_TOTAL_RATIO, is_upper_bound=True),
        Ratio("the same, when one ends on average", mean, MAX_MEAN_RATIO, is_upper_bound=True),
        Ratio("a job alone: through the worker / the engine alone", crowds.find_total_s(1) / alone_s),
    ]
    head = ["jobs at once", "all ended, s", "/ one after another", "one ended on average, s", "/ one after another"]
    rows = [
        [
            str(jobs),
            f"{crowds.find_total_s(jobs):.1f}",
            f"{crowds.compare_total(jobs):.2f}",
            f"{crowds.find_mean_s(jobs):.1f}",
            f"{crowds.compare_mean(jobs):.2f}",
        ]
        for jobs in CROWDS
    ]
    body = (
        f"### Jobs that share a batch\n\nGuided jobs of {duration_s:.0f} s, {FASTEST}, from submission to stored "
        f"files, through a worker (medians of {repeats} repeats). One after another is so many times one job.\n\n"
        + write_table(head, rows)
    )
    return Section(ratios, body)


@contextmanager
def _serve(folder: Path, kept: Path) -> Iterator[Services]:
    """Run a worker that knows the model, on a Redis and a database of its own."""
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as name:
        home = Path(name)
        link = home / "models" / NAME
        link.parent.mkdir(parents=True)
        link.symlink_to(folder.absolute())
        redis = RedisServer(home / "redis")
        redis.start()
        settings = Settings(home=home, redis_url=redis.url, models_dir=home / "models", log_level="WARNING")
        settings.compiled.symlink_to(kept.absolute())
        services = Services.open(settings)
        try:
            migrate(services.database)
            with run_worker(settings, home / "worker.log", "worker", "--device", "cpu:0", "--kinds", Kind.MUSICGEN):
                yield services
        finally:
            services.close()
            redis.close()


def _submit_and_wait(services: Services, jobs: int, duration_s: float) -> list[float]:
    """Queue jobs; return when each ended, in seconds from when the first was queued."""
    ids = [_submit(services, seed, duration_s) for seed in range(jobs)]
    wait_for_end(services.database, ids, DEADLINE_S)
    return _read_ends_s(services.database, ids)


def _submit(services: Services, seed: int, duration_s: float) -> str:
    params = {"model": NAME, "prompts": [PROMPT], "duration_s": duration_s, "seed": seed, "precision": FASTEST}
    job, _ = submit.submit_job(services, {"kind": Kind.MUSICGEN, "device": "cpu", "params": params})
    return job.id


def _read_ends_s(database: Database, ids: list[str]) -> list[float]:
    with database.reading() as session:
        jobs = session.scalars(select(Job).where(Job.id.in_(ids))).all()
    began = min(job.created_at for job in jobs)
    return [(job.finished_at - began).total_seconds() for job in jobs if job.finished_at is not None]
