"""How fast jobs pass through: Wine evaluations beside bare Celery tasks that do nothing, on the same Redis."""

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from celery import Celery
from redis import Redis
from sqlalchemy import func, select

from shared import queries, submission
from shared.broker import make_celery
from shared.database import Database
from shared.jobs import ENDED, Kind, State
from shared.migrate import migrate
from shared.services import Services
from shared.settings import Settings
from shared.tables import Job
from tests.processes import ServiceProcess
from tests.servers import PostgresServer, RedisServer
from tests.waiting import wait_until
from web import create_app

JOBS = 1_000
IDLE_JOBS = 100
DRAIN_DEADLINE_S = 900.0
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


def run() -> str:
    """Measure, and return a Markdown table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        redis = RedisServer(folder / "redis")
        redis.start()
        stack.callback(redis.close)
        postgres = PostgresServer(folder / "postgres", durable=True)
        stack.callback(postgres.close)
        addresses = {
            "SQLite": f"sqlite:///{folder / 'bench.sqlite'}",
            "PostgreSQL": postgres.make_database()[1],
        }
        rows = [_measure_celery(_make_settings(folder, redis, addresses["SQLite"]), folder)]
        for name, address in addresses.items():
            settings = _make_settings(folder, redis, address)
            rows.append(_measure_wine(name, settings, folder))
        answers = _measure_without_redis(_make_settings(folder, redis, addresses["SQLite"]), redis)
    bare = float(rows[0][1])
    head = ["", "jobs/s", "of bare Celery", "idle p50 ms", "idle p99 ms", "queued p50 s", "queued p99 s", "peak MiB"]
    lines = [head, ["---"] * len(head)] + [[row[0], row[1], f"{float(row[1]) / bare:.2f}", *row[2:]] for row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{JOBS} jobs queued at once and drained by one worker (jobs/s; queued: from submission to start), and "
        f"{IDLE_JOBS} submitted one after another to an idle worker (idle: from submission to start). A Wine job "
        "reads, splits, searches, scores, draws and stores its files. SQLite syncs at its checkpoints, PostgreSQL at "
        "every commit. Peak: the worker's child.\n\n" + table + "\n\n" + answers
    )


def _make_settings(folder: Path, redis: RedisServer, address: str) -> Settings:
    return Settings(home=folder, redis_url=redis.url, database_url=address, log_level="WARNING")


@contextmanager
def _run_worker(settings: Settings, folder: Path, module: str, *arguments: str) -> Iterator[ServiceProcess]:
    worker = ServiceProcess(module, *arguments, settings=settings, log=folder / "worker.log")
    try:
        yield worker
    finally:
        worker.close()


def _measure_celery(settings: Settings, folder: Path) -> list[str]:
    app = make_noop_app(settings)
    with Redis.from_url(settings.redis) as client, _run_worker(settings, folder, "tests.bench.jobs") as worker:

        def wait_for_starts(count: int) -> None:
            wait_until(lambda: client.llen(STARTS) >= count, "a task to start", DRAIN_DEADLINE_S)

        app.send_task("tell", [time.time()], queue=NOOP_QUEUE)
        wait_for_starts(1)
        client.delete(STARTS)
        for number in range(IDLE_JOBS):
            app.send_task("tell", [time.time()], queue=NOOP_QUEUE)
            wait_for_starts(number + 1)
        idle_s = [float(value) for value in client.lrange(STARTS, 0, -1)]
        client.delete(STARTS)
        _suspend(worker, suspended=True)
        for _ in range(JOBS):
            app.send_task("noop", queue=NOOP_QUEUE)
        began = time.perf_counter()
        _suspend(worker, suspended=False)
        wait_until(lambda: not client.llen(NOOP_QUEUE) and not client.hlen("unacked"), "no-ops", DRAIN_DEADLINE_S)
        took_s = time.perf_counter() - began
        peak = _find_peak_mib(worker)
    app.close()
    return ["bare Celery, tasks that do nothing", f"{JOBS / took_s:.1f}", *_write_ms(idle_s), "-", "-", peak]


def _measure_wine(name: str, settings: Settings, folder: Path) -> list[str]:
    services = Services.open(settings)
    migrate(services.database)
    body = {"kind": Kind.KNN, "device": "cpu"}
    with _run_worker(settings, folder, "worker", "--device", "cpu:0", "--kinds", "knn") as worker:
        _wait_for_end(services.database, [submission.submit(services, body)[0].id])
        idle = [submission.submit(services, body)[0].id for _ in _each_when_done(services.database)]
        _suspend(worker, suspended=True)
        queued = [submission.submit(services, body)[0].id for _ in range(JOBS)]
        began = time.perf_counter()
        _suspend(worker, suspended=False)
        _wait_for_end(services.database, queued)
        took_s = time.perf_counter() - began
        peak = _find_peak_mib(worker)
    cells = [*_write_ms(_read_waits_s(services.database, idle))]
    cells += [f"{value:.2f}" for value in _find_percentiles(_read_waits_s(services.database, queued))]
    services.close()
    return [f"mindjobs, Wine jobs, {name}", f"{JOBS / took_s:.1f}", *cells, peak]


def _measure_without_redis(settings: Settings, redis: RedisServer) -> str:
    """Measure what a request loses to a Redis that is gone, and to one that hangs."""
    app = create_app(settings)
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
    app.extensions["mindjobs"].close()
    return f"A submission is answered {usual}; with a Redis that hangs {hanging}; with none {gone}."


def _each_when_done(database: Database) -> Iterator[int]:
    """Count up, each number when nothing is queued or running any more."""
    for number in range(IDLE_JOBS):
        yield number
        with database.reading() as session:
            newest = queries.list_jobs(session, queries.JobFilter(), limit=1)
        _wait_for_end(database, [newest[0].id])


def _wait_for_end(database: Database, job_ids: Sequence[str]) -> None:
    unended = select(func.count()).where(Job.id >= job_ids[0], Job.state.not_in(ENDED))

    def look() -> bool:
        with database.reading() as session:
            return not session.scalar(unended)

    wait_until(look, "the jobs' end", DRAIN_DEADLINE_S)
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


def _write_ms(seconds: Sequence[float]) -> list[str]:
    return [f"{1_000 * value:.1f}" for value in _find_percentiles(seconds)]


def _find_peak_mib(worker: ServiceProcess) -> str:
    (child,) = worker.list_children()
    status = Path(f"/proc/{child.pid}/status").read_text()
    return f"{int(status.split('VmHWM:')[1].split()[0]) / 1024:.0f}"


if __name__ == "__main__":
    from shared.settings import load_settings

    noop_app = make_noop_app(load_settings())
    noop_app.Worker(queues=[NOOP_QUEUE], pool="prefork", quiet=True).start()
    sys.exit(0)
