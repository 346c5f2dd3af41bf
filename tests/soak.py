"""Hundreds of mixed jobs with random cancels and kills: ``python -m tests.soak``, which is ``make soak``.

A worker runs all kinds on SQLite, beside a sweeper. During the first half jobs
are cancelled, and the memory is watched; during the second the worker's child,
and now and then the whole worker, is killed as well. It ends with status 1
where a job is lost, a process loads a model twice, or the memory grows.
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
from shared.database.tables import Artifact, Job
from shared.errors import ConflictError
from shared.jobs import ENDED, Kind, State
from shared.kinds.musicgen.catalogue import TINY
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.support.disks import path_on_disk
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

JOBS: Final = 500
BACKLOG: Final = 24
"""How many jobs have not ended at a time."""
CANCELLED: Final = 0.1
"""The share of jobs that are asked to stop, wherever they are."""
KILL_EVERY: Final = 15
"""How many jobs end between two kills."""
WHOLE_EVERY: Final = 4
"""Every so many kills are the whole worker's."""
MAX_GROWTH: Final = 0.05
"""What the child's memory may grow by from the middle of the first half to its end."""
ABSENT: Final = "nobody/nothing"
"""A model that is nowhere: its jobs fail."""
LOADED: Final = re.compile(r" (\d+) worker\S+shelf: (\S+) is loaded \((\S+)\)")

Figures = dict[str, Any]


def draw_job(random_: random.Random) -> Figures:
    """Draw a job's body."""
    match random_.choices(("neighbours", "music", "absent"), (5, 5, 1))[0]:
        case "neighbours":
            body: Figures = {"kind": Kind.KNN, "params": {"k": random_.randint(1, 20)}}
        case "absent":
            body = {"kind": Kind.MUSICGEN, "params": {"model": ABSENT}}
        case _:
            params = {
                "model": TINY,
                "prompts": random_.choice(([], ["rock"], ["rock", "a slow waltz"])),
                "num_samples": random_.randint(1, 3),
                "max_new_tokens": random_.randint(5, 400),
                "guidance_scale": random_.choice((1.0, 3.0)),
                "precision": random_.choices(("int8", "float32"), (4, 1))[0],
                "seed": random_.randrange(1_000),
            }
            body = {"kind": Kind.MUSICGEN, "params": params}
    return {"device": "cpu", "max_attempts": 20, "priority": random_.randint(0, 9)} | body


class Soak:
    """The service under test, and what is done to it."""

    def __init__(self, folder: Path, jobs: int, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to repeat a run, not to keep a secret
        self._jobs = jobs
        self._redis = RedisServer(folder / "redis")
        self._redis.start()
        self._settings = Settings(home=folder, redis_url=self._redis.url, lease_s=4.0, heartbeat_s=0.5, sweep_s=0.5)
        self._services = Services.open(self._settings)
        migrate(self._services.database)
        self._processes: list[ServiceProcess] = []
        self._sweeper = self._start("shared.maintenance")
        self._worker = self._start_worker()
        self._submitted: list[str] = []
        self._asked: set[str] = set()
        self._rss_bytes: list[int] = []
        self._kills = Counter[str]()

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.close()
        self._services.close()
        self._redis.close()

    def run(self) -> Figures:
        """Submit, cancel and kill until all jobs have ended; tell what is wrong."""
        kill_at = itertools.count(self._jobs // 2, KILL_EVERY)
        next_kill, ended = next(kill_at), 0
        while ended < self._jobs:
            ended = self._wait_for_more_than(ended)
            if ended >= next_kill:
                self._kill()
                next_kill = next(kill_at)
            elif ended < self._jobs // 2:
                self._note_memory()
        return self._judge()

    def _wait_for_more_than(self, ended: int) -> int:
        """Keep the queue filled, and cancel at random, until more jobs than these have ended."""

        def look() -> int:
            states = self._count_states()
            now_ended = sum(states[state] for state in ENDED)
            for _ in range(min(BACKLOG - (len(self._submitted) - now_ended), self._jobs - len(self._submitted))):
                self._submit()
            return now_ended if now_ended > ended else 0

        return wait_until(look, f"another end after {ended} of {self._jobs}")

    def _submit(self) -> None:
        job, _ = submit.submit_job(self._services, draw_job(self._random))
        self._submitted.append(job.id)
        if self._random.random() < CANCELLED:
            chosen = self._random.choice(self._submitted[-BACKLOG:])
            try:
                transitions.cancel(self._services.database, chosen)
                self._asked.add(chosen)
            except ConflictError:
                return  # it had ended

    def _kill(self) -> None:
        """Kill the child, or all of the worker."""
        if sum(self._kills.values()) % WHOLE_EVERY == WHOLE_EVERY - 1:
            self._worker.kill_group()
            self._kills["worker"] += 1
            self._worker = self._start_worker()
            return
        for child in self._find_children():
            child.kill()
            self._kills["child"] += 1

    def _find_children(self) -> list[psutil.Process]:
        """Find what computes: it has mapped OpenVINO."""
        found = []
        for process in self._worker.list_children():
            try:
                if any("/openvino/" in mapped.path for mapped in process.memory_maps()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def _note_memory(self) -> None:
        self._rss_bytes += [child.memory_info().rss for child in self._find_children()]

    def _judge(self) -> Figures:
        """Compare what became of the jobs with what should have."""
        with self._services.database.reading() as session:
            jobs = session.scalars(select(Job)).all()
            artifacts = queries.list_artifacts(session, [job.id for job in jobs])
        wrong = [f"{job.id}: {reason}" for job in jobs if (reason := self._find_fault(job))]
        missing = [
            f"{job.id}: {artifact.name} is not there"
            for job in jobs
            for artifact in artifacts[job.id]
            if not self._is_stored(artifact)
        ]
        loads = Counter(found for process in self._processes for found in LOADED.findall(process.read_log()))
        early, late = _halve(self._rss_bytes)
        growth = late / early - 1
        faults = [
            *wrong,
            *missing,
            *(
                f"process {found[0]} loaded {found[1]} ({found[2]}) {times} times"
                for found, times in loads.items()
                if times > 1
            ),
            *([f"memory grew by {growth:.1%}"] if growth > MAX_GROWTH else []),
            *([] if len(jobs) == self._jobs else [f"{len(jobs)} rows for {self._jobs} jobs"]),
        ]
        return {
            "ends": dict(Counter(job.state for job in jobs)),
            "attempts": dict(sorted(Counter(job.attempt for job in jobs).items())),
            "asked to stop": len(self._asked),
            "kills": dict(self._kills),
            "loads": f"{sum(loads.values())} in {len({found[0] for found in loads})} processes",
            "memory": f"{early / 2**20:.0f} MiB, later {late / 2**20:.0f} MiB ({growth:+.1%})",
            "faults": faults,
        }

    def _is_stored(self, artifact: Artifact) -> bool:
        path = path_on_disk(self._services.files, artifact.key)
        return path.is_file() and path.stat().st_size == artifact.bytes

    def _find_fault(self, job: Job) -> str | None:
        if job.state == State.CANCELLED:
            return None if job.id in self._asked else "cancelled, and nobody asked"
        absent = job.params.get("model") == ABSENT
        if absent and job.state == State.FAILED and job.error is not None:
            return None if job.error["type"] == "model-unavailable" else f"failed as {job.error['type']}"
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


def _halve(values: Sequence[int]) -> tuple[float, float]:
    """Return the medians of the third quarter and of the fourth: before them models are loaded."""
    half, rest = len(values) // 2, len(values) * 3 // 4
    return statistics.median(values[half:rest]), statistics.median(values[rest:])


@contextmanager
def open_soak(jobs: int, seed: int) -> Iterator[Soak]:
    """Start the service in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="mj-soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(Path(folder), jobs, seed)
        try:
            yield soak
        finally:
            soak.close()


def main() -> int:
    """Soak, and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # nobody is asked for the model that is nowhere
    with open_soak(chosen.jobs, chosen.seed) as soak:
        figures = soak.run()
    for name, value in figures.items():
        sys.stdout.write(f"{name}: {value}\n")
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
