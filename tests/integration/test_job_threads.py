"""Jobs that run in the same batch: the runner adds the right jobs, and each job has its own outcome."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pytest
from pydantic import model_validator
from sqlalchemy import update

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.errors import JobFailedError
from shared.jobs import DeviceClass, Kind, State
from shared.kinds import KINDS
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.services import Services
from shared.settings import MAX_CLAIM_LOOP_S
from shared.submission import submit
from shared.texts import text
from tests.integration.conftest import Gate, StartWorker
from tests.support.engine_specs import make_engine_spec
from tests.support.waiting import DEADLINE_S, wait_until
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import JobContext
from worker.runner import Runner
from worker.watchdog import ChildStatus

BOTH = (Kind.KNN, Kind.MUSICGEN)
Work = Callable[[JobContext[Any]], None]


@dataclass
class FakeEngine:
    """Runs jobs of one model at the same time; each job calls the function that the test has set for it.

    Parameters
    ----------
    work
        Maps the first prompt of a job to the function that the job calls.
    started
        The first prompts of the jobs that have started, in the order of their starts; ``knn`` stands for a knn job.
    checked
        The first prompts of the jobs for which the runner has called `can_batch`, one per call.
    """

    work: dict[str, Work] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    name: str = "fake"

    def prepare(self) -> None:
        raise NotImplementedError

    def can_batch(self, params: MusicgenParams, running: Sequence[MusicgenParams]) -> bool:
        self.checked.append(params.prompts[0])
        return len({job.model for job in (params, *running)}) == 1

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        name = context.params.prompts[0] if isinstance(context.params, MusicgenParams) else "knn"
        self.started.append(name)
        if name in self.work:
            self.work[name](context)
        return {"name": name}


@dataclass
class BatchTest:
    """A runner with a fake engine, and the ids of the jobs of a test, keyed by name."""

    services: Services
    engine: FakeEngine
    status: ChildStatus = field(default_factory=ChildStatus)
    ids: dict[str, str] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    """One entry each time that the runner has checked whether another job can be added to the batch.

    The entry is the kind of the job at the head of the queue, or an empty string if the runner read no job.
    """

    def submit(self, name: str, model: str = "a/a", **body: Any) -> None:
        body = {"kind": "musicgen", "device": "cpu", "params": {"model": model, "prompts": [name]}} | body
        self.ids[name] = submit.submit_job(self.services, body)[0].id

    def change(self, name: str, **columns: Any) -> None:
        """Change columns in the row of a job."""
        with self.services.database.writing() as session:
            session.execute(update(Job).where(Job.id == self.ids[name]).values(**columns))

    def run(self, max_claim_loop_s: float = MAX_CLAIM_LOOP_S) -> None:
        runner = Runner(
            self.services,
            Device(DeviceClass.CPU, 0),
            BOTH,
            "w1",
            self.status,
            max_claim_loop_s=max_claim_loop_s,
            on_batch_check=lambda head: self.heads.append("" if head is None else head.kind),
        )
        runner.run_queued_jobs()

    def check_only_first_runs(self, max_claim_loop_s: float = MAX_CLAIM_LOOP_S) -> None:
        wakeups = self.services.broker.count_pending_wakeups(Kind.MUSICGEN, DeviceClass.CPU)
        self.run(max_claim_loop_s)
        assert self.engine.started == ["first"]
        assert self.read("second").state == State.QUEUED
        assert self.services.broker.count_pending_wakeups(Kind.MUSICGEN, DeviceClass.CPU) == wakeups + 1

    def read(self, name: str) -> Job:
        with self.services.database.reading() as session:
            return queries.get_job(session, self.ids[name])

    def wait_for(self, look: Callable[[], object], what: str) -> None:
        """Wait in the thread of a job until ``look`` succeeds; an endless wait fails before pytest ends the test."""
        wait_until(lambda: bool(look()), what)

    def wait_for_checks(self, _: JobContext[Any]) -> None:
        """Keep a job running until the runner has checked twice more whether another job can be added to the batch."""
        before = len(self.heads)
        self.wait_for(lambda: len(self.heads) >= before + 2, "two checks")

    def wait_until_checked(self, name: str) -> Work:
        """Return a function that keeps a job running until `can_batch` has been called twice for the job ``name``."""
        return lambda _: self.wait_for(lambda: self.engine.checked.count(name) >= 2, f"two checks of {name}")


@pytest.fixture
def batch(services: Services, monkeypatch: pytest.MonkeyPatch) -> BatchTest:
    engine = FakeEngine()
    for kind in BOTH:
        monkeypatch.setitem(ENGINES, kind, make_engine_spec(lambda: engine))
    return BatchTest(replace(services, settings=services.settings.model_copy(update={"models_allowed": "*"})), engine)


def test_jobs_of_the_same_model_run_at_the_same_time(batch: BatchTest) -> None:
    all_running = threading.Barrier(3)
    for name in ("one", "two", "three"):
        batch.submit(name)
        batch.engine.work[name] = lambda _: (all_running.wait(DEADLINE_S), None)[1]
    batch.run()
    assert sorted(batch.engine.started) == ["one", "three", "two"]
    assert batch.engine.started[0] == "one"
    for name in batch.ids:
        ended = batch.read(name)
        assert (ended.state, ended.attempt, ended.result) == (State.SUCCEEDED, 1, {"name": name})


def test_new_job_is_added_to_a_running_batch(batch: BatchTest) -> None:
    def wait_for_new_job(_: JobContext[Any]) -> None:
        batch.submit("new")
        batch.wait_for(lambda: "new" in batch.engine.started, "the new job")

    batch.engine.work["old"] = wait_for_new_job
    batch.submit("old")
    batch.run()
    assert [batch.read(name).state for name in ("old", "new")] == [State.SUCCEEDED] * 2


def test_head_of_the_queue_is_never_skipped(batch: BatchTest) -> None:
    batch.submit("first")
    batch.submit("other", model="b/b")
    batch.submit("third")
    batch.engine.work["first"] = batch.wait_until_checked("other")
    batch.run()
    assert batch.engine.started == ["first", "other", "third"]


def test_job_of_the_highest_priority_starts_first(batch: BatchTest) -> None:
    batch.submit("first")
    batch.submit("normal")
    batch.submit("urgent", priority=9)
    batch.engine.work["urgent"] = lambda _: batch.wait_for(lambda: len(batch.engine.started) == 3, "all jobs")
    batch.run()
    assert batch.engine.started[0] == "urgent"
    assert batch.engine.checked == ["first", "normal"]


def test_job_of_another_kind_runs_before_jobs_that_were_queued_later(batch: BatchTest) -> None:
    def submit_both(_: JobContext[Any]) -> None:
        batch.submit("neighbours", kind="knn", params={})
        batch.submit("late")
        batch.wait_for(lambda: batch.heads.count("knn") >= 2, "two checks of the queue")

    batch.engine.work["first"] = submit_both
    batch.submit("first")
    batch.run()
    assert batch.engine.started == ["first", "knn", "late"]


def test_parameters_are_parsed_once_per_job(batch: BatchTest, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Counter[str] = Counter()

    class CountedParams(MusicgenParams):
        @model_validator(mode="after")
        def _count(self) -> Self:
            parsed[self.prompts[0]] += 1
            return self

    batch.submit("first")
    batch.submit("second")
    batch.submit("other", model="b/b")
    batch.engine.work["first"] = batch.wait_until_checked("other")
    monkeypatch.setitem(KINDS, Kind.MUSICGEN, replace(KINDS[Kind.MUSICGEN], params=CountedParams))
    batch.run()
    # Both waiting jobs were read at the head of the queue: `second` joined the batch, and `other` ran after the batch.
    assert batch.engine.started == ["first", "second", "other"]
    assert parsed == {"first": 1, "second": 1, "other": 1}


def test_job_whose_stored_parameters_are_invalid_fails_alone(batch: BatchTest) -> None:
    for name in ("first", "invalid", "third"):
        batch.submit(name)
    batch.change("invalid", params={"prompts": "of another version"})
    batch.engine.work["first"] = batch.wait_for_checks
    batch.run()
    assert batch.engine.started == ["first", "third"]
    assert [batch.read(name).state for name in batch.ids] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    error = batch.read("invalid").error
    assert error is not None
    assert error["type"] == "internal-error"


def test_each_job_of_a_batch_has_its_own_outcome(batch: BatchTest) -> None:
    all_running = threading.Barrier(4)

    def cancel(context: JobContext[Any]) -> None:
        all_running.wait(DEADLINE_S)
        transitions.cancel(batch.services.database, batch.ids["cancelled"])
        while True:
            context.report(stage="waiting", done=0, total=1, unit="steps")

    def refuse(_: JobContext[Any]) -> None:
        all_running.wait(DEADLINE_S)
        raise JobFailedError("no-such-thing", text("no-such-thing"))

    def crash(_: JobContext[Any]) -> None:
        all_running.wait(DEADLINE_S)
        raise ZeroDivisionError

    def outlast(_: JobContext[Any]) -> None:
        all_running.wait(DEADLINE_S)
        batch.wait_for(lambda: all(batch.read(name).finished_at for name in batch.ids if name != "good"), "the others")

    batch.engine.work |= {"cancelled": cancel, "refused": refuse, "crashed": crash, "good": outlast}
    for name in batch.engine.work:
        batch.submit(name)
    batch.run()
    states = {name: batch.read(name).state for name in batch.ids}
    assert states == {
        "cancelled": State.CANCELLED,
        "refused": State.FAILED,
        "crashed": State.FAILED,
        "good": State.SUCCEEDED,
    }


@pytest.mark.parametrize("order", [("weak", "other"), ("other", "weak")], ids=["runs-first", "waits"])
def test_job_on_its_last_attempt_runs_alone(batch: BatchTest, order: tuple[str, str]) -> None:
    """If a job on its last attempt kills its process, no other job fails, since none runs in that process."""
    for name in order:
        batch.submit(name, max_attempts=3)
    batch.change("weak", attempt=2)
    batch.engine.work[order[0]] = batch.wait_for_checks
    batch.run()
    assert batch.engine.started == [*order]
    assert batch.engine.checked == []


def test_no_second_job_starts_on_a_worker_that_shuts_down(batch: BatchTest) -> None:
    batch.submit("first")
    batch.submit("second")
    batch.status.request_shutdown()
    batch.engine.work["first"] = batch.wait_for_checks
    batch.check_only_first_runs()


def test_another_worker_is_woken_at_the_time_limit_of_the_claim_loop(batch: BatchTest) -> None:
    batch.submit("first")
    batch.submit("second")
    batch.check_only_first_runs(max_claim_loop_s=0.0)


def test_job_whose_process_is_killed_does_not_fail_other_jobs_of_the_batch(
    services: Services, start_worker: StartWorker, make_gate: Callable[[], Gate]
) -> None:
    """The worker itself queues the other job again at once: this test has no sweeper to recover it after its lease."""
    start_worker(grace_s=0.5)
    stuck, other = make_gate(), make_gate()
    stuck.submit(ignores_stop=True, batches=True)
    other.submit(batches=True)
    child = stuck.wait_for_child()
    assert other.wait_for_child() == child
    transitions.cancel(services.database, stuck.job_id)
    stuck.wait_for(State.CANCELLED)
    other.wait_for_child(other_than=child)
    other.open()
    assert other.wait_for(State.SUCCEEDED).attempt == 2
