"""How the web answers: polls beside open streams, polls beside a bare row's, and pages over a million ended jobs."""

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
from tests.bench.peer_process import run_apart
from tests.bench.section import Ratio, Section, count_repeats, write_table
from tests.bench.web_load import count_answers, poll_beside_streams, time_answers
from tests.bench.web_rows import fill
from tests.support.instances import WEB, wait_for_web
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import PostgresServer, RedisServer

REPEATS: Final = 5
STREAMS: Final = 64
POLLS_PER_S: Final = 50
POLLING_S: Final = 20.0
MAX_POLL_MS: Final = 500.0
BEAT_EVERY_S: Final = 1.0
LOADED_S: Final = 3.0
MIN_BARE_SHARE: Final = 0.8
ENDED_JOBS: Final = 1_000_000
ENDED_JOBS_VARIABLE: Final = "MINDJOBS_BENCH_ENDED_JOBS"
"""Names how many ended jobs to fill the table with; for trying the bench itself out."""
VIEWS: Final = 50
MAX_PAGE_MS: Final = 100.0
CLAIMANT: Final = WorkerIdentity({Kind.KNN: "mindspore"}, DeviceClass.CPU, "bench", lease_s=3_600)
BARE_APP: Final = ("tests.bench.bare_web:create_app()",)


def run() -> Section:
    """Measure."""
    repeats = count_repeats(REPEATS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        redis = RedisServer(folder / "redis")
        redis.start()
        stack.callback(redis.close)
        postgres = PostgresServer(folder / "postgres", durable=True)
        stack.callback(postgres.close)

        def provide(address: str) -> Settings:
            return Settings(home=folder, redis_url=redis.url, database_url=address, log_level="WARNING")

        parts = []
        for name, address in (
            ("SQLite", f"sqlite:///{folder / 'web.sqlite'}"),
            ("PostgreSQL", postgres.make_database()[1]),
        ):
            parts += _measure_polls(name, provide(address), folder, repeats)
        parts.append(_measure_pages(provide(postgres.make_database()[1]), folder))
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
def serve(settings: Settings, log: Path, *application: str) -> Iterator[int]:
    """Serve an application as ours is served, and return the port."""
    served = settings.model_copy(update={"port": reserve_port()})
    web = ServiceProcess(*WEB, *application, settings=served, log=log)
    try:
        wait_for_web(web, served)
        yield served.port
    finally:
        web.close()


def _start_job(services: Services) -> Lease:
    submit.submit_job(services, {"kind": Kind.KNN, "device": "cpu"})
    job = transitions.claim(services.database, CLAIMANT)
    if job is None:
        raise RuntimeError("there is no job to start")
    return Lease(job.id, job.attempt)


def _end_job(services: Services) -> str:
    lease = _start_job(services)
    files = tuple(StoredFile(f"{name}.svg", name, "image/svg+xml", 9, "0" * 64) for name in "abcde")
    transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {"best_k": 5}, files=files))
    return lease.job_id


def _measure_polls(name: str, settings: Settings, folder: Path, repeats: int) -> list[Section]:
    with open_services(settings) as services:
        leases = [_start_job(services) for _ in range(STREAMS)]
        ended = _end_job(services)
        _beat(services, leases, 0)
        with serve(settings, folder / "streams.log") as port:
            streams = _measure_streams(name, port, services, leases)
        # Another one, for a web notices at its next word alone that a stream's client has gone.
        with serve(settings, folder / "own.log") as own, serve(settings, folder / "bare.log", *BARE_APP) as bare:
            webs = {"ours": own, "bare": bare}
            # Files are rows of their own, which the bare one does not read; what is polled has none yet.
            races = [
                _race(f"a running job, {name}", webs, leases[0].job_id, repeats, MIN_BARE_SHARE),
                _race(f"an ended job with its five files, {name}", webs, ended, repeats, None),
            ]
    return [streams, *races]


def _beat(services: Services, leases: Sequence[Lease], done: int) -> None:
    for lease in leases:
        transitions.heartbeat(services.database, lease, Progress("searching", done, 1_000, "rows"), 3_600)


def _measure_streams(name: str, port: int, services: Services, leases: Sequence[Lease]) -> Section:
    """Measure polls while there are streams, and something to tell by them."""
    over = threading.Event()

    def keep_beating() -> None:
        done = 0
        while not over.wait(BEAT_EVERY_S):
            done += 1
            _beat(services, leases, done)

    beating = threading.Thread(target=keep_beating)
    beating.start()
    try:
        job_ids = [lease.job_id for lease in leases]
        taken_s, events = run_apart(poll_beside_streams, port, job_ids, POLLS_PER_S, POLLING_S)
    finally:
        over.set()
        beating.join()
    p50_ms, p99_ms, most_ms = _find_percentiles_ms(taken_s)
    text = (
        f"{name}: {len(taken_s)} status polls, {POLLS_PER_S} a second for {POLLING_S:g} s, beside {STREAMS} open event "
        f"streams, through which {events} events came: p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms, "
        f"at most {most_ms:.1f} ms."
    )
    ratio = Ratio(
        f"ms of a status poll beside {STREAMS} streams, p99: {name}", p99_ms, MAX_POLL_MS, is_upper_bound=True
    )
    return Section([ratio], text)


@dataclass
class Racer:
    """Who answers, and how many times a second."""

    port: int
    per_s: list[float] = field(default_factory=list)

    @property
    def median_per_s(self) -> float:
        return statistics.median(self.per_s)


def _race(title: str, ports: dict[str, int], job_id: str, repeats: int, least: float | None) -> Section:
    """Let two webs answer in turns."""
    path = f"/api/v1/jobs/{job_id}"
    racers = {name: Racer(port) for name, port in ports.items()}
    for racer in racers.values():
        run_apart(count_answers, racer.port, path, LOADED_S / 3)  # each process has its connections by then
    for _ in range(repeats):
        for racer in racers.values():
            racer.per_s.append(run_apart(count_answers, racer.port, path, LOADED_S))
    rows = [
        [name, f"{racer.median_per_s:.0f}", f"{min(racer.per_s):.0f} to {max(racer.per_s):.0f}"]
        for name, racer in racers.items()
    ]
    quotient = racers["ours"].median_per_s / racers["bare"].median_per_s
    text = f"GET of {title}, median of {repeats} turns of {LOADED_S:g} s:"
    return Section(
        [Ratio(f"status GET/s / bare Flask and SQLAlchemy: {title}", quotient, least)],
        f"{text}\n\n{write_table(['', 'answers/s', 'its turns'], rows)}",
    )


def _measure_pages(settings: Settings, folder: Path) -> Section:
    """Measure pages over many ended jobs, first as nobody, then as the holder of a key."""
    jobs = int(os.environ.get(ENDED_JOBS_VARIABLE) or ENDED_JOBS)
    common, rare = make_id(), make_id()
    holders = {"a third of the jobs": common, "a thousandth": rare}
    with open_services(settings) as services:
        fill(services.database, jobs, common=common, rare=rare)
        with services.database.reading() as session:
            middle = queries.list_jobs(session, queries.JobFilter(), 1, before=_find_middle(jobs))[0].id
            newest = queries.list_jobs(session, queries.JobFilter(), 1)[0].id
        with serve(settings, folder / "open.log") as port:
            timed = {path: _view(port, path) for path in _list_paths(newest, middle, jobs)}
        with services.database.writing() as session:
            rows = [
                {"id": key, "name": key, "sha256": api_keys.hash_key(key), "created_at": now()}
                for key in holders.values()
            ]
            session.execute(insert(Key).values(rows))
        with serve(settings, folder / "keyed.log") as port:
            for who, key in holders.items():
                for path in ("/jobs", "/api/v1/jobs?state=failed&limit=100", "/api/v1/jobs?label.team=t2"):
                    timed[f"{path} of a key with {who}"] = _view(port, path, f"Authorization: Bearer {key}")
    return _write_pages(jobs, timed)


def _view(port: int, path: str, *headers: str) -> list[float]:
    """Look at a page, after each process has most likely shown it once: what a first time costs depends on no table."""
    for _ in range(8):
        time_answers(port, path, 1, *headers)
    return run_apart(time_answers, port, path, VIEWS, *headers)


def _find_middle(jobs: int) -> str:
    return f"{1_700_000_000_000 + jobs // 2 * 30_000:012x}"[:8] + "-ffff"


def _list_paths(newest: str, middle: str, jobs: int) -> list[str]:
    filters = ["state=failed", "state=cancelled", "state=running", "kind=musicgen", "device=ascend", "device=gpu"]
    filters += ["kind=musicgen&state=cancelled", "label.team=t2", f"label.run=r{jobs // 40}", "label.team=none"]
    filters += ["label.team=t2&state=failed", f"label.run=r{jobs // 40}&label.team=t0"]
    lists = ["/jobs", *(f"/jobs?{one}" for one in filters)]
    deep = [f"/api/v1/jobs?limit=100&cursor={middle}", f"/api/v1/jobs?label.team=t2&cursor={middle}"]
    return [*lists, "/api/v1/jobs", *deep, f"/jobs/{newest}", f"/jobs/{middle}"]


def _write_pages(jobs: int, timed: dict[str, list[float]]) -> Section:
    figures = {path: _find_percentiles_ms(taken_s) for path, taken_s in timed.items()}
    rows = [[path, *(f"{value:.1f}" for value in values)] for path, values in figures.items()]
    slowest = max(figures, key=lambda path: figures[path][1])
    ratio = Ratio(f"ms of the slowest page, p99: {slowest}", figures[slowest][1], MAX_PAGE_MS, is_upper_bound=True)
    text = f"Pages over {jobs} ended jobs in PostgreSQL, {VIEWS} views each, not their first:"
    return Section([ratio], f"{text}\n\n{write_table(['', 'p50 ms', 'p99 ms', 'most ms'], rows)}")


def _find_percentiles_ms(taken_s: Sequence[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(taken_s, n=100, method="inclusive")
    return 1_000 * cuts[49], 1_000 * cuts[98], 1_000 * max(taken_s)
