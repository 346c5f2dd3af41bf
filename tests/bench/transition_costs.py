"""What each step of a job costs besides its compute, called one by one in this process."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.database import queries, transitions
from shared.database.migrate import migrate
from shared.jobs import DeviceClass, Kind, Lease, Outcome, Progress, State, WorkerIdentity
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.bench.section import Ratio, write_table
from web import create_app
from web.context import get_context
from worker.runner import BATCH_CHECK_INTERVAL_S

CALLS: Final = 300
MAX_HEARTBEAT_SHARE: Final = 0.01
"""What keeping leases may take of a core's time."""
SIDES: Final = (1, 8)
LEASE_S: Final = 600.0
CLAIMANT: Final = WorkerIdentity(dict.fromkeys(Kind, "any"), DeviceClass.CPU, "bench", LEASE_S)


@dataclass(frozen=True)
class Cost:
    """What a call takes: the median, in seconds, and the processor's time on average."""

    median_s: float
    processor_s: float

    @classmethod
    def measure(cls, act: Callable[[int], object]) -> "Cost":
        """Call so often; the first call, which prepares things, does not count."""
        act(0)
        times_s = []
        began_s = time.process_time()
        for number in range(1, CALLS + 1):
            start_s = time.perf_counter()
            act(number)
            times_s.append(time.perf_counter() - start_s)
        return cls(statistics.median(times_s), (time.process_time() - began_s) / CALLS)


@dataclass(frozen=True)
class Steps:
    """What was measured on one database.

    Parameters
    ----------
    costs
        Step to its cost.
    heartbeat_s
        How often a running job's lease is prolonged.
    """

    database: str
    costs: dict[str, Cost]
    heartbeat_s: float

    def list_ratios(self) -> list[Ratio]:
        """Compare what is done while jobs run with the time in which it is done."""
        beat, look = self.costs["beat"].processor_s, self.costs["look for company"].processor_s
        return [
            Ratio(
                f"beats, cancel checks, looks for company with {jobs} running, {self.database} / a core's time",
                jobs * beat / self.heartbeat_s + look / BATCH_CHECK_INTERVAL_S,
                MAX_HEARTBEAT_SHARE,
                is_upper_bound=True,
            )
            for jobs in SIDES
        ]


def measure_steps(name: str, settings: Settings) -> Steps:
    """Measure."""
    app = create_app(settings)
    services: Services = get_context(app).services
    database, client = services.database, app.test_client()
    migrate(database)
    ids, leases = [], []

    def submit(_: int) -> None:
        ids.append(submit_job(services, {"kind": Kind.KNN, "device": "cpu"})[0].id)

    def claim(_: int) -> None:
        job = transitions.claim(database, CLAIMANT)
        if job is None:
            raise RuntimeError("a job has been claimed by somebody else")
        leases.append(Lease(job.id, job.attempt))

    def look(_: int) -> None:
        with database.reading() as session:
            queries.find_next_job(session, [*Kind], DeviceClass.CPU)

    acts: dict[str, Callable[[int], object]] = {
        "submit, publish included": submit,
        "publish": lambda number: services.broker.wake(Kind.MUSICGEN, DeviceClass.GPU, ids[number]),
        "look for company": look,
        "claim": claim,
        "beat": lambda number: transitions.heartbeat(
            database, leases[0], Progress("generating", number, CALLS, "steps"), LEASE_S
        ),
        "poll, by the API": lambda number: client.get(f"/api/v1/jobs/{ids[number]}").get_data(),
        "finish": lambda number: transitions.finish(database, leases[number], Outcome(State.SUCCEEDED, result={})),
    }
    costs = {step: Cost.measure(act) for step, act in acts.items()}
    services.close()
    return Steps(name, costs, settings.heartbeat_s)


def write_steps(measured: Sequence[Steps]) -> str:
    """Write a table of them."""
    head = ["ms", *(f"{steps.database}{kind}" for steps in measured for kind in ("", ", processor"))]
    rows = [
        [
            step,
            *(
                f"{1_000 * value:.2f}"
                for steps in measured
                for value in (steps.costs[step].median_s, steps.costs[step].processor_s)
            ),
        ]
        for step in measured[0].costs
    ]
    about = (
        f"Medians of {CALLS} calls in one process, and the processor's time. Publishing finds as many bells as workers "
        "can hear, but for the first calls."
    )
    return f"### A job's path, step by step\n\n{about}\n\n{write_table(head, rows)}"
