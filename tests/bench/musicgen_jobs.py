"""How long jobs take in a real worker if they are queued at the same time, compared with jobs one after another."""

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
from tests.bench.musicgen_ratios import DEFAULT_PRECISION
from tests.bench.own_model import NAME
from tests.bench.progress import log_progress
from tests.bench.section import Ratio, Section, format_table, read_repeats
from tests.bench.workload import PROMPT
from tests.support.servers import RedisServer

JOB_COUNTS: Final = (1, 2, 4, 8, 16)
"""How many jobs are queued at the same time."""
AIM_JOBS: Final = 8
"""The number of jobs to which the aims ``MAX_TOTAL_RATIO`` and ``MAX_MEAN_RATIO`` apply."""
MAX_TOTAL_RATIO: Final = 0.45
MAX_MEAN_RATIO: Final = 0.6
REPEATS: Final = 5
DEADLINE_S: Final = 1_800.0


@dataclass
class BatchTimes:
    """The times at which jobs ended, in seconds from the submission of the first job.

    Parameters
    ----------
    last_s
        For each number of jobs, the time at which the last job ended, one value per repeat.
    mean_s
        For each number of jobs, the average of the times at which the jobs ended, one value per repeat.
    """

    last_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    mean_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def find_last_s(self, jobs: int) -> float:
        """Return the median, over all repeats, of the time at which the last job ended."""
        return statistics.median(self.last_s[jobs])

    def find_mean_s(self, jobs: int) -> float:
        """Return the median, over all repeats, of the average time at which the jobs ended."""
        return statistics.median(self.mean_s[jobs])

    def compare_last(self, jobs: int) -> float:
        """Divide the time at which the last job ended by its time if the jobs ran one after another."""
        return self.find_last_s(jobs) / (jobs * self.find_last_s(1))

    def compare_mean(self, jobs: int) -> float:
        """Divide the average time at which the jobs ended by the average if the jobs ran one after another."""
        return self.find_mean_s(jobs) / ((jobs + 1) / 2 * self.find_last_s(1))


def run(folder: Path, compiled_folder: Path, duration_s: float, engine_s: float) -> Section:
    """Measure jobs that are queued at the same time, and return the section for the report.

    Parameters
    ----------
    folder
        The folder of the model.
    compiled_folder
        The folder for compiled graphs.
    duration_s
        The length of the music of each job.
    engine_s
        How long a job with music of this length takes in the engine alone, without a worker.
    """
    repeats, times = read_repeats(REPEATS), BatchTimes()
    with _run_service(folder, compiled_folder) as services:
        _submit_and_wait(services, 1, 1.0)  # loads the model
        for repeat in range(repeats):
            for jobs in JOB_COUNTS:
                log_progress(f"{jobs} jobs at once, repeat {repeat + 1} of {repeats}")
                ends_s = _submit_and_wait(services, jobs, duration_s)
                times.last_s[jobs].append(max(ends_s))
                times.mean_s[jobs].append(statistics.mean(ends_s))
    return format_section(times, duration_s, engine_s, repeats)


def format_section(times: BatchTimes, duration_s: float, engine_s: float, repeats: int) -> Section:
    """Format the measured times as a section of the report."""
    last, mean = times.compare_last(AIM_JOBS), times.compare_mean(AIM_JOBS)
    ratios = [
        Ratio(
            f"last end of {AIM_JOBS} jobs: queued at once / one after another",
            last,
            MAX_TOTAL_RATIO,
            is_upper_bound=True,
        ),
        Ratio(
            f"average end of {AIM_JOBS} jobs: queued at once / one after another",
            mean,
            MAX_MEAN_RATIO,
            is_upper_bound=True,
        ),
        Ratio("a job alone: through the worker / the engine alone", times.find_last_s(1) / engine_s),
    ]
    head = ["jobs at once", "last end, s", "last / one after another", "average end, s", "average / one after another"]
    rows = [
        [
            str(jobs),
            f"{times.find_last_s(jobs):.1f}",
            f"{times.compare_last(jobs):.2f}",
            f"{times.find_mean_s(jobs):.1f}",
            f"{times.compare_mean(jobs):.2f}",
        ]
        for jobs in JOB_COUNTS
    ]
    body = (
        f"### Jobs that share a batch\n\nGuided jobs of {duration_s:.0f} s, {DEFAULT_PRECISION}, from submission to "
        f"stored files, through a worker (medians of {repeats} repeats). The times of jobs that run one "
        "after another are calculated from the time of one job: for n jobs, it is multiplied by n for the last end, "
        "and by (n + 1) / 2 for the average end.\n\n" + format_table(head, rows)
    )
    return Section(ratios, body)


@contextmanager
def _run_service(folder: Path, compiled_folder: Path) -> Iterator[Services]:
    """Run a worker that has the model, with a Redis and a database of its own."""
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as name:
        home = Path(name)
        link = home / "models" / NAME
        link.parent.mkdir(parents=True)
        link.symlink_to(folder.absolute())
        redis = RedisServer(home / "redis")
        redis.start()
        settings = Settings(home=home, redis_url=redis.url, models_dir=home / "models", log_level="WARNING")
        settings.compiled.symlink_to(compiled_folder.absolute())
        services = Services.open(settings)
        try:
            migrate(services.database)
            with run_worker(settings, home / "worker.log", "worker", "--device", "cpu:0", "--kinds", Kind.MUSICGEN):
                yield services
        finally:
            services.close()
            redis.close()


def _submit_and_wait(services: Services, jobs: int, duration_s: float) -> list[float]:
    """Queue jobs, and wait for them; return when each job ended, in seconds from the submission of the first job."""
    ids = [_submit(services, seed, duration_s) for seed in range(jobs)]
    wait_for_end(services.database, ids, DEADLINE_S)
    return _read_ends_s(services.database, ids)


def _submit(services: Services, seed: int, duration_s: float) -> str:
    params = {"model": NAME, "prompts": [PROMPT], "duration_s": duration_s, "seed": seed}
    params |= {"precision": DEFAULT_PRECISION}
    job, _ = submit.submit_job(services, {"kind": Kind.MUSICGEN, "device": "cpu", "params": params})
    return job.id


def _read_ends_s(database: Database, ids: list[str]) -> list[float]:
    with database.reading() as session:
        jobs = session.scalars(select(Job).where(Job.id.in_(ids))).all()
    first = min(job.created_at for job in jobs)
    return [(job.finished_at - first).total_seconds() for job in jobs if job.finished_at is not None]
