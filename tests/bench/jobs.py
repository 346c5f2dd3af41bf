"""How fast jobs pass through, beside bare Celery tasks that do nothing: Wine evaluations, and jobs without compute."""

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from celery import Celery
from redis import Redis
from sqlalchemy import func, select

from shared.broker import make_celery
from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.database.tables import Job
from shared.jobs import ENDED, Kind, State
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.bench.section import Ratio, Section, count_repeats, write_table
from tests.bench.transition_costs import measure_steps, write_steps
from tests.support.processes import ServiceProcess
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

JOBS = 1_000
IDLE_JOBS = 100
REPEATS = 5
DRAIN_DEADLINE_S = 300.0
MIN_EMPTY_PER_S = 0.7
MAX_IDLE_MS = 20.0
NOOP_QUEUE = "bench.noop"
STARTS = "bench.starts"


def make_noop_app(settings: Settings) -> Celery:
    """Make an application with our settings and two tasks: one does nothing, one tells when it began."""
    app = make_celery(settings)

    @app.task(name="noop")  # type: ignore[untyped-decorator]  # Celery has no types
    def noop() -> None:
        """Do nothing."""

    @app.task(name="tell")  # type: ignore[untyped-decorator]  # the same
    def tell(sent_at: float) -> None:
        """Tell how long the message took."""
        with Redis.from_url(settings.redis) as client:
            client.rpush(STARTS, time.time() - sent_at)

    return app


@dataclass(frozen=True)
class Work:
    """What the service's jobs are.

    Parameters
    ----------
    module
        The worker's.
    queued
        How many are drained at once.
    least
        How much of bare Celery's pace they should have.
    """

    title: str
    module: str
    queued: int
    least: float | None = None


WORKS = (
    Work("Wine jobs", "worker", 250),
    Work("jobs without compute", "tests.bench.empty_worker", JOBS, MIN_EMPTY_PER_S),
)


@dataclass
class Figures:
    """What was measured of one way through."""

    title: str
    drained_per_s: list[float] = field(default_factory=list)
    idle_s: list[float] = field(default_factory=list)
    queued_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median_per_s(self) -> float:
        """The median of the drains."""
        return statistics.median(self.drained_per_s)


class BareCelery:
    """Tasks that do nothing."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.figures = Figures("bare Celery, tasks that do nothing")
        self._app = make_noop_app(settings)
        stack.callback(self._app.close)
        self._client = stack.enter_context(Redis.from_url(settings.redis))
        self._worker = stack.enter_context(run_worker(settings, folder / "bare.log", "tests.bench.jobs"))
        self._tell(1)  # waits for the worker's start, too

    def measure_idle(self) -> None:
        """Send tasks one after another to an idle worker."""
        self._client.delete(STARTS)
        self._tell(IDLE_JOBS)
        self.figures.idle_s = [float(value) for value in self._client.lrange(STARTS, 0, -1)]

    def drain(self) -> None:
        """Queue tasks, and let them all pass."""
        _suspend(self._worker, suspended=True)
        for _ in range(JOBS):
            self._app.send_task("noop", queue=NOOP_QUEUE)
        began_s = time.perf_counter()
        _suspend(self._worker, suspended=False)
        wait_until(self._passed, "no-ops", DRAIN_DEADLINE_S)
        self.figures.drained_per_s.append(JOBS / (time.perf_counter() - began_s))
        self.figures.peak_bytes = _find_peak_bytes(self._worker)

    def _passed(self) -> bool:
        return not self._client.llen(NOOP_QUEUE) and not self._client.hlen("unacked")

    def _tell(self, count: int) -> None:
        for number in range(count):
            self._app.send_task("tell", [time.time()], queue=NOOP_QUEUE)
            wait_until(lambda told=number + 1: self._client.llen(STARTS) >= told, "a task", DRAIN_DEADLINE_S)  # type: ignore[misc]


class ServiceJobs:
    """The service's own jobs, in a database of some kind."""

    def __init__(self, work: Work, database: str, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.figures = Figures(f"{work.title}, {database}")
        self.work = work
        self._services = Services.open(settings)
        stack.callback(self._services.close)
        migrate(self._services.database)
        log = folder / "workers.log"
        arguments = ("--device", "cpu:0", "--kinds", "knn")
        self._worker = stack.enter_context(run_worker(settings, log, work.module, *arguments))
        wait_for_end(self._services.database, self._submit(1))

    def measure_idle(self) -> None:
        """Submit jobs one after another to an idle worker."""
        database = self._services.database
        for _ in range(IDLE_JOBS):
            ids = self._submit(1)
            wait_for_end(database, ids)
            self.figures.idle_s += _read_waits_s(database, ids)

    def drain(self) -> None:
        """Queue jobs, and let them all pass."""
        _suspend(self._worker, suspended=True)
        queued = self._submit(self.work.queued)
        began_s = time.perf_counter()
        _suspend(self._worker, suspended=False)
        wait_for_end(self._services.database, queued)
        self.figures.drained_per_s.append(self.work.queued / (time.perf_counter() - began_s))
        self.figures.queued_s += _read_waits_s(self._services.database, queued)
        self.figures.peak_bytes = _find_peak_bytes(self._worker)

    def _submit(self, count: int) -> list[str]:
        body = {"kind": Kind.KNN, "device": "cpu"}
        return [submit.submit_job(self._services, body)[0].id for _ in range(count)]


def run() -> Section:
    """Measure."""
    repeats = count_repeats(REPEATS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        postgres = PostgresServer(folder / "postgres", durable=True)
        stack.callback(postgres.close)

        def provide(address: str) -> Settings:
            # A Redis each: bells of one database would ring for nobody in the other.
            redis = _start_redis(Path(tempfile.mkdtemp(dir=folder)), stack)
            return Settings(home=folder, redis_url=redis.url, database_url=address, log_level="WARNING")

        with ExitStack() as workers:
            bare = BareCelery(provide(f"sqlite:///{folder / 'none.sqlite'}"), folder, workers)
            own = [
                ServiceJobs(work, database, provide(address), folder, workers)
                for work in WORKS
                for database, address in (
                    ("SQLite", f"sqlite:///{folder / work.module}.sqlite"),
                    ("PostgreSQL", postgres.make_database()[1]),
                )
            ]
            contenders: list[BareCelery | ServiceJobs] = [bare, *own]
            for contender in contenders:
                contender.measure_idle()
            for _ in range(repeats):
                for contender in contenders:
                    contender.drain()
        steps = []
        for name, address in (
            ("SQLite", f"sqlite:///{folder / 'steps.sqlite'}"),
            ("PostgreSQL", postgres.make_database()[1]),
        ):
            steps.append(measure_steps(name, provide(address)))
        answers = _measure_without_redis(folder, stack)
    ratios = [
        Ratio(
            f"jobs/s drained: {jobs.figures.title} / bare Celery",
            jobs.figures.median_per_s / bare.figures.median_per_s,
            jobs.work.least,
        )
        for jobs in own
    ]
    idle = [
        Ratio(
            f"ms from submission to running, idle, p50: {jobs.figures.title}",
            1_000 * statistics.median(jobs.figures.idle_s),
            MAX_IDLE_MS,
            is_upper_bound=True,
        )
        for jobs in own
    ]
    figures = [contender.figures for contender in contenders]
    keeping = [ratio for each in steps for ratio in each.list_ratios()]
    body = "\n\n".join((_write_figures(figures, repeats), answers, write_steps(steps)))
    return Section([*ratios, *idle, *keeping], body)


def _write_figures(measured: Sequence[Figures], repeats: int) -> str:
    head = ["", "jobs/s", "its repeats", "idle p50 ms", "idle p99 ms", "queued p50 s", "queued p99 s", "peak MiB"]
    rows = [
        [
            figures.title,
            f"{figures.median_per_s:.1f}",
            f"{min(figures.drained_per_s):.1f} to {max(figures.drained_per_s):.1f}",
            *(f"{1_000 * value:.1f}" for value in _find_percentiles(figures.idle_s)),
            *([f"{value:.2f}" for value in _find_percentiles(figures.queued_s)] if figures.queued_s else ["-", "-"]),
            f"{figures.peak_bytes / 2**20:.0f}",
        ]
        for figures in measured
    ]
    return (
        f"{JOBS} jobs, {WORKS[0].queued} of the Wine jobs, queued at once and drained by one worker (jobs/s, median of "
        f"{repeats} repeats in turn, the slowest and the fastest; queued: from submission to start, of all repeats), "
        f"and {IDLE_JOBS} submitted one "
        "after another to an idle worker (idle: from submission to start). A Wine job reads, splits, searches, scores, "
        "draws and stores its files; one without compute is the same with an engine that returns at once. SQLite "
        "syncs at its checkpoints, PostgreSQL at every commit. Peak: the worker's child.\n\n" + write_table(head, rows)
    )


def _start_redis(folder: Path, stack: ExitStack) -> RedisServer:
    redis = RedisServer(folder)
    redis.start()
    stack.callback(redis.close)
    return redis


@contextmanager
def run_worker(settings: Settings, log: Path, module: str, *arguments: str) -> Iterator[ServiceProcess]:
    worker = ServiceProcess(module, *arguments, settings=settings, log=log)
    try:
        yield worker
    finally:
        worker.close()


def _measure_without_redis(folder: Path, stack: ExitStack) -> str:
    """Measure what a request loses to a Redis that is gone, and to one that hangs."""
    redis = _start_redis(folder / "redis", stack)
    settings = Settings(home=folder, redis_url=redis.url, database_url=f"sqlite:///{folder / 'web.sqlite'}")
    app = create_app(settings)
    migrate(get_context(app).services.database)
    client = app.test_client()

    def time_answer() -> str:
        began = time.perf_counter()
        answer = client.post("/api/v1/jobs", json={"kind": Kind.KNN, "device": "cpu"})
        return f"{answer.status_code} after {time.perf_counter() - began:.2f} s"

    usual = time_answer()
    redis.signal(signal.SIGSTOP)
    hanging = time_answer()
    redis.signal(signal.SIGCONT)
    redis.stop()
    gone = time_answer()
    get_context(app).services.close()
    return f"A submission is answered {usual}; with a Redis that hangs {hanging}; with none {gone}."


def wait_for_end(database: Database, job_ids: Sequence[str], deadline_s: float = DRAIN_DEADLINE_S) -> None:
    unended = select(func.count()).where(Job.id >= job_ids[0], Job.state.not_in(ENDED))

    def look() -> bool:
        with database.reading() as session:
            return not session.scalar(unended)

    wait_until(look, "the jobs' end", deadline_s)
    with database.reading() as session:
        failed = session.scalar(select(func.count()).where(Job.id >= job_ids[0], Job.state != State.SUCCEEDED))
    if failed:
        raise RuntimeError(f"{failed} jobs did not succeed")


def _read_waits_s(database: Database, job_ids: Sequence[str]) -> list[float]:
    statement = select(Job.started_at, Job.created_at).where(Job.id >= job_ids[0], Job.id <= job_ids[-1])
    with database.reading() as session:
        return [(row.started_at - row.created_at).total_seconds() for row in session.execute(statement)]


def _suspend(worker: ServiceProcess, *, suspended: bool) -> None:
    """Stop the worker while its queue is filled, so that all jobs wait at the start; or let it go on."""
    for process in [psutil.Process(worker.process.pid), *worker.list_children()]:
        (process.suspend if suspended else process.resume)()


def _find_percentiles(values: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def _find_peak_bytes(worker: ServiceProcess) -> int:
    (child,) = worker.list_children()
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) << 10


if __name__ == "__main__":
    from shared.settings import load_settings

    noop_app = make_noop_app(load_settings())
    noop_app.Worker(queues=[NOOP_QUEUE], pool="prefork", quiet=True).start()
    sys.exit(0)
