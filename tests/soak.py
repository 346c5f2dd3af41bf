"""A soak test: it runs hundreds of mixed jobs, while jobs are cancelled at random and processes are killed.

``make soak`` runs it, as ``python -m tests.soak``.

One worker runs all kinds of job, with SQLite and a sweeper. Jobs are cancelled until the end of the test. Until half of
the jobs have ended, the memory of the worker's child process is measured. After that, processes are killed: mostly the
worker's child process, and sometimes the whole worker. The exit status is 1 if a job is lost, a process loads a model
twice, or the memory grows.
"""

import argparse
import itertools
import os
import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from sqlalchemy import select

from shared.database import queries, transitions
from shared.database.migrate import migrate
from shared.database.tables import Job
from shared.errors import ConflictError
from shared.jobs import ENDED, Kind, State
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.support.disks import is_stored
from tests.support.job_bodies import draw_knn, draw_music
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from worker.engines.musicgen import model_cache

JOBS: Final = 500
BACKLOG: Final = 24
"""How many jobs are queued or running at the same time."""
CANCEL_SHARE: Final = 0.1
"""The share of submissions that are followed by a cancellation.

The job to cancel is chosen at random from the last ``BACKLOG`` submitted jobs, whatever its state.
"""
JOBS_BETWEEN_KILLS: Final = 15
"""How many jobs end between two kills."""
WORKER_KILL_INTERVAL: Final = 4
"""Every fourth kill ends the whole worker; the other kills end only its child process."""
MAX_GROWTH: Final = 0.05
"""The allowed growth of the child's memory from the third to the fourth quarter of the measurements, as a fraction."""
MIN_MEMORY_SAMPLES: Final = 100
"""With fewer measurements, the growth is not checked, since models would still be loaded in the third quarter."""
ABSENT_MODEL: Final = "absent/model"
"""A model that does not exist: its jobs fail."""
LOADED: Final = re.compile(rf" (\d+) {re.escape(model_cache.__name__)}: (\S+) is loaded \((\S+)\)")
"""Matches the log line of a process that has loaded a model; the groups are process id, model and precision."""

Figures = dict[str, Any]


def draw_job(random_: random.Random) -> Figures:
    """Draw the body of a submission at random."""
    match random_.choices(("knn", "musicgen", "absent model"), (5, 5, 1))[0]:
        case "knn":
            body = draw_knn(random_)
        case "absent model":
            body = {"kind": Kind.MUSICGEN, "params": {"model": ABSENT_MODEL}}
        case _:
            body = draw_music(random_, max_tokens=400)
    return {"device": "cpu", "max_attempts": 20, "priority": random_.randint(0, 9)} | body


class Soak:
    """Runs the service, submits and cancels jobs, kills processes, and checks the outcomes."""

    def __init__(self, folder: Path, jobs: int, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to repeat a run, not to keep a secret
        self._jobs = jobs
        self._redis = RedisServer(folder / "redis")
        self._redis.start()
        self._settings = Settings(
            home=folder,
            redis_url=self._redis.url,
            lease_s=4.0,
            heartbeat_s=0.5,
            sweep_s=0.5,
            models_allowed=f"known,{ABSENT_MODEL}",
        )
        self._services = Services.open(self._settings)
        migrate(self._services.database)
        self._processes: list[ServiceProcess] = []
        self._sweeper = self._start("shared.maintenance")
        self._worker = self._start_worker()
        self._submitted: list[str] = []
        self._cancelled: set[str] = set()
        self._rss_bytes: list[int] = []
        self._kills = Counter[str]()

    def close(self) -> None:
        """Kill all processes."""
        for process in self._processes:
            process.close()
        self._services.close()
        self._redis.close()

    def run(self) -> Figures:
        """Submit and cancel jobs and kill processes until all jobs have ended; return the figures and the faults."""
        kill_counts = itertools.count(self._jobs // 2, JOBS_BETWEEN_KILLS)
        next_kill, ended = next(kill_counts), 0
        while ended < self._jobs:
            ended = self._wait_for_more_than(ended)
            if ended >= next_kill:
                self._kill()
                next_kill = next(kill_counts)
            elif ended < self._jobs // 2:
                self._record_memory()
        return self._check()

    def _wait_for_more_than(self, ended: int) -> int:
        """Keep the queue filled, and cancel jobs at random, until more than ``ended`` jobs have ended.

        Returns
        -------
        The number of jobs that have ended.
        """

        def fill_queue() -> int:
            states = self._count_states()
            now_ended = sum(states[state] for state in ENDED)
            for _ in range(min(BACKLOG - (len(self._submitted) - now_ended), self._jobs - len(self._submitted))):
                self._submit()
            return now_ended if now_ended > ended else 0

        return wait_until(fill_queue, f"the end of another job after {ended} of {self._jobs}")

    def _submit(self) -> None:
        job, _ = submit.submit_job(self._services, draw_job(self._random))
        self._submitted.append(job.id)
        if self._random.random() < CANCEL_SHARE:
            chosen = self._random.choice(self._submitted[-BACKLOG:])
            try:
                transitions.cancel(self._services.database, chosen)
                self._cancelled.add(chosen)
            except ConflictError:
                return  # the job had ended

    def _kill(self) -> None:
        """Kill the worker's child process, or the whole worker."""
        if sum(self._kills.values()) % WORKER_KILL_INTERVAL == WORKER_KILL_INTERVAL - 1:
            self._worker.kill_group()
            self._kills["worker"] += 1
            self._worker = self._start_worker()
            return
        for child in self._find_computing_children():
            child.kill()
            self._kills["child"] += 1

    def _find_computing_children(self) -> list[psutil.Process]:
        """Find the worker's child processes that compute: the processes that have loaded OpenVINO."""
        found = []
        for process in self._worker.list_children():
            try:
                if any("/openvino/" in mapped.path for mapped in process.memory_maps()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def _record_memory(self) -> None:
        self._rss_bytes += [child.memory_info().rss for child in self._find_computing_children()]

    def _check(self) -> Figures:
        """Compare the outcomes of the jobs with the expected ones."""
        with self._services.database.reading() as session:
            jobs = session.scalars(select(Job)).all()
            artifacts = queries.list_artifacts(session, [job.id for job in jobs])
        wrong = [f"{job.id}: {reason}" for job in jobs if (reason := self._find_fault(job))]
        missing = [
            f"{job.id}: {artifact.name} is missing or damaged"
            for job in jobs
            for artifact in artifacts[job.id]
            if not is_stored(self._services.files, artifact)
        ]
        loads = Counter(found for process in self._processes for found in LOADED.findall(process.read_log()))
        memory, memory_faults = check_memory(self._rss_bytes)
        faults = [
            *wrong,
            *missing,
            *(
                f"process {found[0]} loaded {found[1]} ({found[2]}) {times} times"
                for found, times in loads.items()
                if times > 1
            ),
            *([] if loads else ["no process has logged that it loaded a model"]),
            *memory_faults,
            *([] if len(jobs) == self._jobs else [f"{len(jobs)} rows for {self._jobs} jobs"]),
        ]
        return {
            "states": dict(Counter(job.state for job in jobs)),
            "attempts": dict(sorted(Counter(job.attempt for job in jobs).items())),
            "cancel requests": len(self._cancelled),
            "kills": dict(self._kills),
            "loads": f"{sum(loads.values())} in {len({found[0] for found in loads})} processes",
            "memory": memory,
            "faults": faults,
        }

    def _find_fault(self, job: Job) -> str | None:
        if job.state == State.CANCELLED:
            return None if job.id in self._cancelled else "cancelled without a request"
        absent = job.params.get("model") == ABSENT_MODEL
        if absent and job.state == State.FAILED and job.error is not None:
            return None if job.error["type"] == "model-unavailable" else f"failed with {job.error['type']}"
        return None if job.state == State.SUCCEEDED and not absent else f"is {job.state}: {job.error}"

    def _count_states(self) -> Counter[str]:
        with self._services.database.reading() as session:
            return Counter(session.scalars(select(Job.state)).all())

    def _start_worker(self) -> ServiceProcess:
        return self._start("worker", "--device", "cpu:0", "--kinds", f"{Kind.KNN},{Kind.MUSICGEN}")

    def _start(self, module: str, *arguments: str) -> ServiceProcess:
        log = Path(self._settings.home, f"{len(self._processes)}.log")
        self._processes.append(ServiceProcess(module, *arguments, settings=self._settings, log=log))
        return self._processes[-1]


def check_memory(rss_bytes: Sequence[int]) -> tuple[str, list[str]]:
    """Compare the third quarter of the measurements with the fourth; models are loaded during the first two quarters.

    Returns
    -------
    A description, and the faults.
    """
    if len(rss_bytes) < MIN_MEMORY_SAMPLES:
        return f"not checked, since there are only {len(rss_bytes)} measurements", []
    third, fourth = len(rss_bytes) // 2, len(rss_bytes) * 3 // 4
    early, late = statistics.median(rss_bytes[third:fourth]), statistics.median(rss_bytes[fourth:])
    growth = late / early - 1
    description = f"{early / 2**20:.0f} MiB, later {late / 2**20:.0f} MiB ({growth:+.1%})"
    return description, [f"memory grew by {growth:.1%}"] if growth > MAX_GROWTH else []


@contextmanager
def open_soak(jobs: int, seed: int) -> Iterator[Soak]:
    """Run the service in a temporary folder while the block runs."""
    with tempfile.TemporaryDirectory(prefix="mj-soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(Path(folder), jobs, seed)
        try:
            yield soak
        finally:
            soak.close()


def main() -> int:
    """Run the soak test, and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # the absent model is not searched for on the network
    with open_soak(chosen.jobs, chosen.seed) as soak:
        figures = soak.run()
    for name, value in figures.items():
        sys.stdout.write(f"{name}: {value}\n")
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
