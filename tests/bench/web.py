"""How fast the web answers polls and sends pages.

Polls are measured twice: while event streams are open, and without event streams, in comparison
with a bare application. Pages are measured with a table of many ended jobs.
"""

import os
import statistics
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import insert

from shared import api_keys
from shared.database import queries, transitions
from shared.database.connection import now
from shared.database.migrate import migrate
from shared.database.tables import Key
from shared.ids import make_id
from shared.jobs import DeviceClass, Kind, Lease, Outcome, Progress, State, StoredFile, WorkerIdentity
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.bench import web_slow_clients, web_uploads
from tests.bench.measured_process import run_in_process
from tests.bench.section import Ratio, Section, format_table, read_repeats
from tests.bench.web_load import count_responses, find_percentiles_ms, poll_during_streams, time_responses
from tests.bench.web_rows import insert_ended_jobs
from tests.support.instances import WEB, wait_for_web
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import PostgresServer, RedisServer

REPEATS: Final = 5
STREAMS: Final = 64
POLLS_PER_S: Final = 50
POLLING_S: Final = 20.0
MAX_POLL_MS: Final = 500.0
HEARTBEAT_INTERVAL_S: Final = 1.0
LOAD_S: Final = 3.0
MIN_BARE_RATIO: Final = 0.8
"""The aim for the rate of polls of a running job, as a share of the rate of the bare application."""
ENDED_JOBS: Final = 1_000_000
ENDED_JOBS_VARIABLE: Final = "MINDJOBS_BENCH_ENDED_JOBS"
"""The environment variable that sets how many ended jobs the table is filled with, for short trial runs."""
VIEWS: Final = 50
UNTIMED_VIEWS: Final = 8
MAX_PAGE_MS: Final = 100.0
WORKER: Final = WorkerIdentity({Kind.KNN: "mindspore"}, DeviceClass.CPU, "bench", lease_s=3_600)
BARE_APP: Final = ("tests.bench.bare_web:make_application()",)


def run() -> Section:
    """Measure how fast the web answers, and return the section for the report."""
    repeats = read_repeats(REPEATS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        redis = RedisServer(folder / "redis")
        redis.start()
        stack.callback(redis.close)
        postgres = PostgresServer(folder / "postgres", durable=True)
        stack.callback(postgres.close)

        def make_settings(address: str) -> Settings:
            return Settings(home=folder / "home", redis_url=redis.url, database_url=address, log_level="WARNING")

        parts = []
        for name, address in (
            ("SQLite", f"sqlite:///{folder / 'web.sqlite'}"),
            ("PostgreSQL", postgres.make_database()[1]),
        ):
            parts += _measure_polls(name, make_settings(address), folder, repeats)
        parts.append(_measure_pages(make_settings(postgres.make_database()[1]), folder))
    return Section.join(parts)


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    services = Services.open(settings)
    migrate(services.database)
    try:
        yield services
    finally:
        services.close()


@contextmanager
def run_web(settings: Settings, log: Path, *application: str) -> Iterator[int]:
    """Run a web application under the server of the service, with these settings, and yield the port.

    By default, the application is that of the service.
    """
    served = settings.model_copy(update={"port": reserve_port()})
    web = ServiceProcess(*WEB, *application, settings=served, log=log)
    try:
        wait_for_web(web, served)
        yield served.port
    finally:
        web.close()


def _start_job(services: Services) -> Lease:
    submit.submit_job(services, {"kind": Kind.KNN, "device": "cpu"})
    job = transitions.claim(services.database, WORKER)
    if job is None:
        raise RuntimeError("there is no job to start")
    return Lease(job.id, job.attempt)


def _finish_job(services: Services) -> str:
    lease = _start_job(services)
    files = tuple(StoredFile(f"{name}.svg", name, "image/svg+xml", 9, "0" * 64) for name in "abcde")
    transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {"best_k": 5}, files=files))
    return lease.job_id


def _measure_polls(name: str, settings: Settings, folder: Path, repeats: int) -> list[Section]:
    with open_services(settings) as services:
        leases = [_start_job(services) for _ in range(STREAMS)]
        ended = _finish_job(services)
        _send_heartbeats(services, leases, 0)
        with run_web(settings, folder / "streams.log") as port:
            streams = _measure_streams(name, port, services, leases)
        with run_web(settings, folder / "slow.log") as port:
            slow = web_slow_clients.measure(name, services, lambda: _start_job(services), port)
        with run_web(settings, folder / "uploads.log") as port:
            uploads = web_uploads.measure(name, settings, port, folder)
        # The rates are measured with a new web process: the web notices that the client of a stream is gone only when
        # it writes to this stream again, so the old process may still hold closed streams.
        with run_web(settings, folder / "own.log") as own, run_web(settings, folder / "bare.log", *BARE_APP) as bare:
            ports = {"ours": own, "bare": bare}
            # Each artifact of a job has a row of its own, which the bare application does not read. So only the running
            # job has an aim: it has no artifacts yet.
            rates = [
                _compare_rates(f"a running job, {name}", ports, leases[0].job_id, repeats, MIN_BARE_RATIO),
                _compare_rates(f"an ended job with its five files, {name}", ports, ended, repeats, None),
            ]
    return [streams, slow, uploads, *rates]


def _send_heartbeats(services: Services, leases: Sequence[Lease], done: int) -> None:
    for lease in leases:
        transitions.heartbeat(services.database, lease, Progress("searching", done, 1_000, "rows"), 3_600)


def _measure_streams(name: str, port: int, services: Services, leases: Sequence[Lease]) -> Section:
    """Measure polls while event streams are open, over which the web sends the progress of running jobs."""
    ended = threading.Event()

    def report_progress() -> None:
        done = 0
        while not ended.wait(HEARTBEAT_INTERVAL_S):
            done += 1
            _send_heartbeats(services, leases, done)

    heartbeats = threading.Thread(target=report_progress)
    heartbeats.start()
    try:
        job_ids = [lease.job_id for lease in leases]
        times_s, events = run_in_process(poll_during_streams, port, job_ids, POLLS_PER_S, POLLING_S)
    finally:
        ended.set()
        heartbeats.join()
    p50_ms, p99_ms, max_ms = find_percentiles_ms(times_s)
    text = (
        f"{name}: {len(times_s)} status polls, {POLLS_PER_S} a second for {POLLING_S:g} s, during {STREAMS} open event "
        f"streams, which delivered {events} events: p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms, at most {max_ms:.1f} ms."
    )
    ratio = Ratio(
        f"ms of a status poll during {STREAMS} streams, p99: {name}", p99_ms, MAX_POLL_MS, is_upper_bound=True
    )
    return Section([ratio], text)


@dataclass
class MeasuredWeb:
    """A web application, and its responses per second in each repeat."""

    port: int
    per_s: list[float] = field(default_factory=list)

    @property
    def median_per_s(self) -> float:
        return statistics.median(self.per_s)


def _compare_rates(title: str, ports: dict[str, int], job_id: str, repeats: int, min_ratio: float | None) -> Section:
    """Compare how many responses per second the applications send, if the same load is put on each of them in turn."""
    path = f"/api/v1/jobs/{job_id}"
    webs = {name: MeasuredWeb(port) for name, port in ports.items()}
    for web in webs.values():
        run_in_process(count_responses, web.port, path, LOAD_S / 3)  # not recorded: it opens connections
    for _ in range(repeats):
        for web in webs.values():
            web.per_s.append(run_in_process(count_responses, web.port, path, LOAD_S))
    rows = [
        [name, f"{web.median_per_s:.0f}", f"{min(web.per_s):.0f} to {max(web.per_s):.0f}"] for name, web in webs.items()
    ]
    ratio = webs["ours"].median_per_s / webs["bare"].median_per_s
    text = f"GET of {title}, median of {repeats} repeats of {LOAD_S:g} s, in turn:"
    return Section(
        [Ratio(f"status GET/s / bare Flask and SQLAlchemy: {title}", ratio, min_ratio)],
        f"{text}\n\n{format_table(['', 'answers/s', 'its repeats'], rows)}",
    )


def _measure_pages(settings: Settings, folder: Path) -> Section:
    """Measure pages over many ended jobs: first without API keys, then with each of two API keys that own some jobs."""
    jobs = int(os.environ.get(ENDED_JOBS_VARIABLE) or ENDED_JOBS)
    common, rare = make_id(), make_id()
    keys = {"a third of the jobs": common, "a thousandth": rare}
    with open_services(settings) as services:
        insert_ended_jobs(settings.database_url, jobs, common_owner=common, rare_owner=rare)
        with services.database.reading() as session:
            middle = queries.list_jobs(session, queries.JobFilter(), 1, before=_find_middle(jobs))[0].id
            newest = queries.list_jobs(session, queries.JobFilter(), 1)[0].id
        with run_web(settings, folder / "open.log") as port:
            times_s = {path: _time_views(port, path) for path in _list_paths(newest, middle, jobs)}
        with services.database.writing() as session:
            rows = [
                {"id": key, "name": key, "sha256": api_keys.hash_key(key), "created_at": now()} for key in keys.values()
            ]
            session.execute(insert(Key).values(rows))
        with run_web(settings, folder / "keys.log") as port:
            for share, key in keys.items():
                for path in ("/jobs", "/api/v1/jobs?state=failed&limit=100", "/api/v1/jobs?label.team=t2"):
                    times_s[f"{path} of a key with {share}"] = _time_views(port, path, f"Authorization: Bearer {key}")
    return _format_pages(jobs, times_s)


def _time_views(port: int, path: str, *headers: str) -> list[float]:
    """Time views of a page.

    The first view of the page in a process of the web is slow for other reasons. So some untimed views come first,
    after which each process has most likely sent the page once.
    """
    for _ in range(UNTIMED_VIEWS):
        time_responses(port, path, 1, *headers)
    return run_in_process(time_responses, port, path, VIEWS, *headers)


def _find_middle(jobs: int) -> str:
    """Return an id that divides the jobs of ``insert_ended_jobs`` into an older and a newer half."""
    return f"{1_700_000_000_000 + jobs // 2 * 30_000:012x}"[:8] + "-ffff"


def _list_paths(newest: str, middle: str, jobs: int) -> list[str]:
    filters = ["state=failed", "state=cancelled", "state=running", "kind=musicgen", "device=ascend", "device=gpu"]
    filters += ["kind=musicgen&state=cancelled", "label.team=t2", f"label.run=r{jobs // 40}", "label.team=none"]
    filters += ["label.team=t2&state=failed", f"label.run=r{jobs // 40}&label.team=t0"]
    lists = ["/jobs", *(f"/jobs?{one}" for one in filters)]
    deep = [f"/api/v1/jobs?limit=100&cursor={middle}", f"/api/v1/jobs?label.team=t2&cursor={middle}"]
    return [*lists, "/api/v1/jobs", *deep, f"/jobs/{newest}", f"/jobs/{middle}"]


def _format_pages(jobs: int, times_s: dict[str, list[float]]) -> Section:
    figures = {path: find_percentiles_ms(values) for path, values in times_s.items()}
    rows = [[path, *(f"{value:.1f}" for value in values)] for path, values in figures.items()]
    slowest = max(figures, key=lambda path: figures[path][1])
    ratio = Ratio(f"ms of the slowest page, p99: {slowest}", figures[slowest][1], MAX_PAGE_MS, is_upper_bound=True)
    text = f"Pages over {jobs} ended jobs in PostgreSQL, {VIEWS} views each, after {UNTIMED_VIEWS} that are not timed:"
    return Section([ratio], f"{text}\n\n{format_table(['', 'p50 ms', 'p99 ms', 'max ms'], rows)}")
