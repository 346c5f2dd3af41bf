"""The cost of each operation that a job needs in addition to its computation: submission, claim, heartbeat and others.

The operations are called one by one in this process.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.broker import MAX_PENDING_WAKEUPS
from shared.database import queries, transitions
from shared.database.migrate import migrate
from shared.jobs import DeviceClass, Kind, Lease, Outcome, Progress, State, WorkerIdentity
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.bench.section import Ratio, format_table
from web import create_app
from web.context import get_context
from worker.runner import BATCH_CHECK_INTERVAL_S

CALLS: Final = 300
MAX_CPU_SHARE: Final = 0.01
"""The largest share of the time of one core that heartbeats and batch checks may take."""
RUNNING_JOBS: Final = (1, 8)
LEASE_S: Final = 600.0
WORKER: Final = WorkerIdentity(dict.fromkeys(Kind, "any"), DeviceClass.CPU, "bench", LEASE_S)
BATCH_CHECK: Final = "batch check"
HEARTBEAT: Final = "heartbeat"


@dataclass(frozen=True)
class Cost:
    """The cost of a call: the median duration, and the average CPU time."""

    median_s: float
    cpu_s: float

    @classmethod
    def measure(cls, step: Callable[[int], object]) -> "Cost":
        """Measure ``CALLS`` calls of ``step``.

        Before them comes one call that is not measured, because it opens connections and fills caches.
        """
        step(0)
        times_s = []
        cpu_start_s = time.process_time()
        for number in range(1, CALLS + 1):
            start_s = time.perf_counter()
            step(number)
            times_s.append(time.perf_counter() - start_s)
        return cls(statistics.median(times_s), (time.process_time() - cpu_start_s) / CALLS)


@dataclass(frozen=True)
class TransitionCosts:
    """The costs that were measured with one database.

    Parameters
    ----------
    costs
        For each operation, given by its name, its cost.
    heartbeat_s
        The interval at which the lease of a running job is extended, in seconds.
    """

    database: str
    costs: dict[str, Cost]
    heartbeat_s: float

    def list_ratios(self) -> list[Ratio]:
        """List the shares of a core's time that running jobs take in addition to their computation."""
        heartbeat_cpu_s, check_cpu_s = self.costs[HEARTBEAT].cpu_s, self.costs[BATCH_CHECK].cpu_s
        return [
            Ratio(
                f"heartbeats, cancel checks and batch checks with {jobs} running, {self.database} / a core's time",
                jobs * heartbeat_cpu_s / self.heartbeat_s + check_cpu_s / BATCH_CHECK_INTERVAL_S,
                MAX_CPU_SHARE,
                is_upper_bound=True,
            )
            for jobs in RUNNING_JOBS
        ]


def measure_costs(name: str, settings: Settings) -> TransitionCosts:
    """Measure the costs with the database of the settings; ``name`` is the name of this database in the report."""
    app = create_app(settings)
    services: Services = get_context(app).services
    database, client = services.database, app.test_client()
    migrate(database)
    ids, leases = [], []

    def submit(_: int) -> None:
        ids.append(submit_job(services, {"kind": Kind.KNN, "device": "cpu"})[0].id)

    def claim(_: int) -> None:
        job = transitions.claim(database, WORKER)
        if job is None:
            raise RuntimeError("there is no job to claim")
        leases.append(Lease(job.id, job.attempt))

    def read_head(_: int) -> None:
        with database.reading() as session:
            queries.find_next_job(session, [*Kind], DeviceClass.CPU)

    steps: dict[str, Callable[[int], object]] = {
        "submit, publish included": submit,
        "publish": lambda number: services.broker.wake(Kind.MUSICGEN, DeviceClass.GPU, ids[number]),
        BATCH_CHECK: read_head,
        "claim": claim,
        HEARTBEAT: lambda number: transitions.heartbeat(
            database, leases[0], Progress("generating", number, CALLS, "steps"), LEASE_S
        ),
        "poll, by the API": lambda number: client.get(f"/api/v1/jobs/{ids[number]}").get_data(),
        "finish": lambda number: transitions.finish(database, leases[number], Outcome(State.SUCCEEDED, result={})),
    }
    costs = {step: Cost.measure(call) for step, call in steps.items()}
    services.close()
    return TransitionCosts(name, costs, settings.heartbeat_s)


def format_costs(measured: Sequence[TransitionCosts]) -> str:
    """Format a table with one line per operation."""
    head = ["ms", *(f"{each.database}{kind}" for each in measured for kind in ("", ", processor"))]
    rows = [
        [
            step,
            *(
                f"{1_000 * value:.2f}"
                for each in measured
                for value in (each.costs[step].median_s, each.costs[step].cpu_s)
            ),
        ]
        for step in measured[0].costs
    ]
    about = (
        f"Medians of {CALLS} calls in one process, and the average CPU time of a call (processor). The first "
        f"{MAX_PENDING_WAKEUPS} calls publish a wake-up message; later ones find that number pending, and publish none."
    )
    return f"### A job's path, step by step\n\n{about}\n\n{format_table(head, rows)}"
