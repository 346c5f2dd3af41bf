"""How fast jobs are processed: Wine evaluations, and jobs without computation, compared with bare Celery tasks."""

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
from tests.bench.section import Ratio, Section, format_table, read_repeats
from tests.bench.transition_costs import TransitionCosts, format_costs, measure_costs
from tests.support.processes import ServiceProcess
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

JOBS = 1_000
WINE_JOBS = 250
IDLE_JOBS = 100
REPEATS = 5
DRAIN_DEADLINE_S = 300.0
MIN_THROUGHPUT_RATIO = 0.7
"""The aim for the throughput of jobs without computation, as a share of the throughput of bare Celery."""
MAX_IDLE_MS = 20.0
NOOP_QUEUE = "bench.noop"
DELAYS_KEY = "bench.delays"


def make_noop_app(settings: Settings) -> Celery:
    """Make a Celery application with two tasks: one does nothing, the other records how long it waited."""
    app = make_celery(settings)

    @app.task(name="noop")  # type: ignore[untyped-decorator]  # Celery has no types
    def noop() -> None:
        """Do nothing."""

    @app.task(name="record_delay")  # type: ignore[untyped-decorator]  # Celery has no types
    def record_delay(sent_at: float) -> None:
        """Record the time from sending the message to the start of the task."""
        with Redis.from_url(settings.redis) as client:
            client.rpush(DELAYS_KEY, time.time() - sent_at)

    return app


@dataclass(frozen=True)
class Workload:
    """The jobs of one measurement.

    Parameters
    ----------
    worker_module
        The module that is started as the worker.
    queued
        How many jobs are queued at once.
    min_ratio
        The aim for the throughput of the jobs, as a share of the throughput of bare Celery.
    """

    title: str
    worker_module: str
    queued: int
    min_ratio: float | None = None


WORKLOADS = (
    Workload("Wine jobs", "worker", WINE_JOBS),
    Workload("jobs without compute", "tests.bench.empty_worker", JOBS, MIN_THROUGHPUT_RATIO),
)


@dataclass
class Figures:
    """The figures of one queue: of bare Celery, or of a workload of the service with one database."""

    title: str
    jobs_per_s: list[float] = field(default_factory=list)
    idle_s: list[float] = field(default_factory=list)
    queued_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median_per_s(self) -> float:
        """The median throughput."""
        return statistics.median(self.jobs_per_s)


class BareCelery:
    """The baseline: Celery tasks that do nothing."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.figures = Figures("bare Celery, tasks that do nothing")
        self._app = make_noop_app(settings)
        stack.callback(self._app.close)
        self._client = stack.enter_context(Redis.from_url(settings.redis))
        self._worker = stack.enter_context(run_worker(settings, folder / "bare.log", "tests.bench.jobs"))
        self._send_one_by_one(1)  # also waits until the worker has started

    def measure_idle(self) -> None:
        """Send tasks one after another to an idle worker, and record how long each task waits."""
        self._client.delete(DELAYS_KEY)
        self._send_one_by_one(IDLE_JOBS)
        self.figures.idle_s = [float(value) for value in self._client.lrange(DELAYS_KEY, 0, -1)]

    def drain(self) -> None:
        """Queue tasks while the worker is suspended, and measure how fast it then processes all of them."""
        _suspend(self._worker, suspended=True)
        for _ in range(JOBS):
            self._app.send_task("noop", queue=NOOP_QUEUE)
        start_s = time.perf_counter()
        _suspend(self._worker, suspended=False)
        wait_until(self._is_drained, "the end of the empty tasks", DRAIN_DEADLINE_S)
        self.figures.jobs_per_s.append(JOBS / (time.perf_counter() - start_s))
        self.figures.peak_bytes = _read_peak_bytes(self._worker)

    def _is_drained(self) -> bool:
        return not self._client.llen(NOOP_QUEUE) and not self._client.hlen("unacked")

    def _send_one_by_one(self, count: int) -> None:
        for number in range(count):
            self._app.send_task("record_delay", [time.time()], queue=NOOP_QUEUE)
            wait_until(lambda sent=number + 1: self._client.llen(DELAYS_KEY) >= sent, "a task", DRAIN_DEADLINE_S)  # type: ignore[misc]


class ServiceJobs:
    """The jobs of one workload, which the service runs with one of the two databases."""

    def __init__(self, workload: Workload, database: str, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.figures = Figures(f"{workload.title}, {database}")
        self.workload = workload
        self._services = Services.open(settings)
        stack.callback(self._services.close)
        migrate(self._services.database)
        log = folder / "workers.log"
        arguments = ("--device", "cpu:0", "--kinds", "knn")
        self._worker = stack.enter_context(run_worker(settings, log, workload.worker_module, *arguments))
        wait_for_end(self._services.database, self._submit(1))

    def measure_idle(self) -> None:
        """Submit jobs one after another to an idle worker, and record how long each job waits."""
        database = self._services.database
        for _ in range(IDLE_JOBS):
            ids = self._submit(1)
            wait_for_end(database, ids)
            self.figures.idle_s += _read_waits_s(database, ids)

    def drain(self) -> None:
        """Queue jobs while the worker is suspended, and measure how fast it then processes all of them."""
        _suspend(self._worker, suspended=True)
        queued = self._submit(self.workload.queued)
        start_s = time.perf_counter()
        _suspend(self._worker, suspended=False)
        wait_for_end(self._services.database, queued)
        self.figures.jobs_per_s.append(self.workload.queued / (time.perf_counter() - start_s))
        self.figures.queued_s += _read_waits_s(self._services.database, queued)
        self.figures.peak_bytes = _read_peak_bytes(self._worker)

    def _submit(self, count: int) -> list[str]:
        body = {"kind": Kind.KNN, "device": "cpu"}
        return [submit.submit_job(self._services, body)[0].id for _ in range(count)]


@dataclass(frozen=True)
class Servers:
    """The servers and folders of one run; all of them are closed and removed when the stack is closed."""

    folder: Path
    postgres: PostgresServer
    stack: ExitStack

    @classmethod
    def open(cls, stack: ExitStack) -> "Servers":
        """Start the servers."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        postgres = PostgresServer(folder / "postgres", durable=True)
        stack.callback(postgres.close)
        return cls(folder, postgres, stack)

    def make_settings(self, database: str, name: str) -> Settings:
        """Make settings with a fresh database, ``SQLite`` or ``PostgreSQL``, and a fresh Redis.

        Each database has a Redis of its own: a wake-up message for a job in one database must not reach a worker of
        another database.
        """
        sqlite = f"sqlite:///{self.folder / name}.sqlite"
        address = sqlite if database == "SQLite" else self.postgres.make_database()[1]
        redis = self.start_redis()
        return Settings(home=self.folder / "home", redis_url=redis.url, database_url=address, log_level="WARNING")

    def start_redis(self) -> RedisServer:
        """Start a Redis with a folder of its own."""
        redis = RedisServer(Path(tempfile.mkdtemp(dir=self.folder)))
        redis.start()
        self.stack.callback(redis.close)
        return redis


DATABASES = ("SQLite", "PostgreSQL")


def run() -> Section:
    """Measure how fast jobs are processed, and return the section for the report."""
    repeats = read_repeats(REPEATS)
    with ExitStack() as stack:
        servers = Servers.open(stack)
        bare, own = _measure_queues(servers, repeats)
        costs = [measure_costs(name, servers.make_settings(name, "costs")) for name in DATABASES]
        answers = _measure_without_redis(servers)
    throughput = [
        Ratio(
            f"jobs/s drained: {jobs.figures.title} / bare Celery",
            jobs.figures.median_per_s / bare.figures.median_per_s,
            jobs.workload.min_ratio,
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
    return Section(
        [*throughput, *idle, *(ratio for each in costs for ratio in each.list_ratios())],
        _format_body([bare.figures, *(jobs.figures for jobs in own)], repeats, answers, costs),
    )


def _measure_queues(servers: Servers, repeats: int) -> tuple[BareCelery, list[ServiceJobs]]:
    """Measure bare Celery and the jobs of the service in turn."""
    folder = servers.folder
    with ExitStack() as workers:
        bare = BareCelery(servers.make_settings("SQLite", "unused"), folder, workers)
        own = [
            ServiceJobs(workload, database, servers.make_settings(database, workload.worker_module), folder, workers)
            for workload in WORKLOADS
            for database in DATABASES
        ]
        queues: list[BareCelery | ServiceJobs] = [bare, *own]
        for queue in queues:
            queue.measure_idle()
        for _ in range(repeats):
            for queue in queues:
                queue.drain()
    return bare, own


def _format_body(measured: Sequence[Figures], repeats: int, answers: str, costs: Sequence[TransitionCosts]) -> str:
    head = ["", "jobs/s", "its repeats", "idle p50 ms", "idle p99 ms", "queued p50 s", "queued p99 s", "peak MiB"]
    rows = [
        [
            figures.title,
            f"{figures.median_per_s:.1f}",
            f"{min(figures.jobs_per_s):.1f} to {max(figures.jobs_per_s):.1f}",
            *(f"{1_000 * value:.1f}" for value in _find_percentiles(figures.idle_s)),
            *([f"{value:.2f}" for value in _find_percentiles(figures.queued_s)] if figures.queued_s else ["-", "-"]),
            f"{figures.peak_bytes / 2**20:.0f}",
        ]
        for figures in measured
    ]
    about = (
        f"{JOBS} jobs ({WINE_JOBS} of the Wine jobs) are queued at once and processed by one worker: jobs/s is the "
        f"median of {repeats} repeats (each queue in turn), with the slowest and the fastest; queued is the time from "
        f"submission to start, over all repeats. {IDLE_JOBS} jobs are submitted one after another to an idle worker: "
        "idle is the time from submission to start. A Wine job reads, splits, searches, scores, draws and stores its "
        "files; a job without compute is the same with an engine that returns at once. SQLite syncs at its "
        "checkpoints, PostgreSQL at every commit. Peak: the memory of the worker's child process."
    )
    return "\n\n".join((about, format_table(head, rows), answers, format_costs(costs)))


@contextmanager
def run_worker(settings: Settings, log: Path, module: str, *arguments: str) -> Iterator[ServiceProcess]:
    worker = ServiceProcess(module, *arguments, settings=settings, log=log)
    try:
        yield worker
    finally:
        worker.close()


def _measure_without_redis(servers: Servers) -> str:
    """Measure how long a submission takes: normally, if Redis hangs, and if Redis does not run."""
    folder, redis = servers.folder, servers.start_redis()
    settings = Settings(home=folder / "home", redis_url=redis.url, database_url=f"sqlite:///{folder / 'web.sqlite'}")
    app = create_app(settings)
    services = get_context(app).services
    migrate(services.database)
    client = app.test_client()

    def time_answer() -> str:
        start_s = time.perf_counter()
        answer = client.post("/api/v1/jobs", json={"kind": Kind.KNN, "device": "cpu"})
        return f"{answer.status_code} after {time.perf_counter() - start_s:.2f} s"

    normal = time_answer()
    redis.signal(signal.SIGSTOP)
    hanging = time_answer()
    redis.signal(signal.SIGCONT)
    redis.stop()
    absent = time_answer()
    services.close()
    return f"A submission is answered with {normal}; if Redis hangs, with {hanging}; without Redis, with {absent}."


def wait_for_end(database: Database, job_ids: Sequence[str], deadline_s: float = DRAIN_DEADLINE_S) -> None:
    """Wait until these jobs have ended, and check that all succeeded; they must be the newest jobs in the database."""
    unended = select(func.count()).where(Job.id >= job_ids[0], Job.state.not_in(ENDED))

    def have_ended() -> bool:
        with database.reading() as session:
            return not session.scalar(unended)

    wait_until(have_ended, "the end of the jobs", deadline_s)
    with database.reading() as session:
        failed = session.scalar(select(func.count()).where(Job.id >= job_ids[0], Job.state != State.SUCCEEDED))
    if failed:
        raise RuntimeError(f"{failed} jobs did not succeed")


def _read_waits_s(database: Database, job_ids: Sequence[str]) -> list[float]:
    statement = select(Job.started_at, Job.created_at).where(Job.id >= job_ids[0], Job.id <= job_ids[-1])
    with database.reading() as session:
        return [(row.started_at - row.created_at).total_seconds() for row in session.execute(statement)]


def _suspend(worker: ServiceProcess, *, suspended: bool) -> None:
    """Suspend or resume the worker; while it is suspended, jobs can be queued without being started."""
    for process in [psutil.Process(worker.process.pid), *worker.list_children()]:
        (process.suspend if suspended else process.resume)()


def _find_percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def _read_peak_bytes(worker: ServiceProcess) -> int:
    (child,) = worker.list_children()
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) << 10


if __name__ == "__main__":
    from shared.settings import load_settings

    noop_app = make_noop_app(load_settings())
    noop_app.Worker(queues=[NOOP_QUEUE], pool="prefork", quiet=True).start()
    sys.exit(0)
