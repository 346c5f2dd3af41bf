"""Jobs that share a worker's child: who joins whom, and that what becomes of one is its own."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import update

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.errors import JobFailedError
from shared.jobs import DeviceClass, Kind, State
from shared.services import Services
from shared.submission import submit
from tests.integration.conftest import Gate
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until
from worker import registry, runner
from worker.devices import Device
from worker.engines.interface import JobContext
from worker.runner import Runner
from worker.watchdog import ChildStatus

BOTH = (Kind.KNN, Kind.MUSICGEN)
Work = Callable[[JobContext[Any]], None]


@dataclass
class FakeEngine:
    """Runs jobs of one model side by side; what each does is the test's."""

    work: dict[str, Work] = field(default_factory=dict)
    """The first prompt to what is done for it."""
    began: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    name: str = "fake"

    def prepare(self) -> None:
        raise NotImplementedError

    def can_batch(self, params: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]) -> bool:
        self.asked.append(params["prompts"][0])
        return len({job["model"] for job in (params, *beside)}) == 1

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        name = context.params.get("prompts", ["knn"])[0]
        self.began.append(name)
        if name in self.work:
            self.work[name](context)
        return {"name": name}


@dataclass
class Stage:
    services: Services
    engine: FakeEngine
    pulse: ChildStatus = field(default_factory=ChildStatus)
    ids: dict[str, str] = field(default_factory=dict)
    looks: int = 0

    def submit(self, name: str, model: str = "a/a", **body: Any) -> None:
        body = {"kind": "musicgen", "device": "cpu", "params": {"model": model, "prompts": [name]}} | body
        self.ids[name] = submit.submit_job(self.services, body)[0].id

    def run(self) -> None:
        Runner(self.services, Device(DeviceClass.CPU, 0), BOTH, "w1", self.pulse).run_queued_jobs()

    def check_only_first_runs(self) -> None:
        bells = self.services.broker.count_pending_wakeups(Kind.MUSICGEN, DeviceClass.CPU)
        self.run()
        assert self.engine.began == ["first"]
        assert self.read("second").state == State.QUEUED
        assert self.services.broker.count_pending_wakeups(Kind.MUSICGEN, DeviceClass.CPU) == bells + 1

    def read(self, name: str) -> Job:
        with self.services.database.reading() as session:
            return queries.get_job(session, self.ids[name])

    def wait_for(self, look: Callable[[], object], what: str) -> None:
        """Wait within a job, so that nothing of the test is left waiting behind it."""
        wait_until(lambda: bool(look()), what, 20)

    def wait_for_looks(self, _: JobContext[Any]) -> None:
        """Work until the runner has twice looked whether somebody can join."""
        before = self.looks
        self.wait_for(lambda: self.looks >= before + 2, "the runner's looks")

    def wait_until_asked(self, name: str) -> Work:
        """Make work that goes on until the runner has twice wondered whether a job may join."""
        return lambda _: self.wait_for(lambda: self.engine.asked.count(name) >= 2, f"the turn of {name}")


@pytest.fixture
def stage(services: Services, monkeypatch: pytest.MonkeyPatch) -> Stage:
    engine = FakeEngine()
    monkeypatch.setattr(registry, "make_engine", lambda *_: engine)
    stage = Stage(services, engine)
    claim_company = Runner._claim_joinable

    def count(*arguments: Any) -> Job | None:
        stage.looks += 1
        return claim_company(*arguments)

    monkeypatch.setattr(Runner, "_claim_joinable", count)
    return stage


def test_jobs_that_suit_each_other_run_at_the_same_time(stage: Stage) -> None:
    together = threading.Barrier(3)
    for name in ("one", "two", "three"):
        stage.submit(name)
        stage.engine.work[name] = lambda _: (together.wait(20), None)[1]
    stage.run()
    assert sorted(stage.engine.began) == ["one", "three", "two"]
    assert stage.engine.began[0] == "one"
    for name in stage.ids:
        ended = stage.read(name)
        assert (ended.state, ended.attempt, ended.result) == (State.SUCCEEDED, 1, {"name": name})


def test_a_newcomer_joins_jobs_that_run(stage: Stage) -> None:
    def wait_for_newcomer(_: JobContext[Any]) -> None:
        stage.submit("new")
        stage.wait_for(lambda: "new" in stage.engine.began, "the newcomer")

    stage.engine.work["old"] = wait_for_newcomer
    stage.submit("old")
    stage.run()
    assert [stage.read(name).state for name in ("old", "new")] == [State.SUCCEEDED] * 2


def test_nobody_overtakes_a_job_that_suits_nobody(stage: Stage) -> None:
    stage.submit("first")
    stage.submit("other", model="b/b")
    stage.submit("third")
    stage.engine.work["first"] = stage.wait_until_asked("other")
    stage.run()
    assert stage.engine.began == ["first", "other", "third"]


def test_the_most_urgent_joins_first(stage: Stage) -> None:
    stage.submit("first")
    stage.submit("calm")
    stage.submit("urgent", priority=9)
    stage.engine.work["urgent"] = lambda _: stage.wait_for(lambda: len(stage.engine.began) == 3, "all")
    stage.run()
    assert stage.engine.began[0] == "urgent"
    assert stage.engine.asked == ["first", "calm"]


def test_a_job_of_another_kind_waits_for_those_that_run_and_for_no_newcomer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    find_head = queries.find_next_job

    def note_turn(*arguments: Any) -> Job | None:
        head = find_head(*arguments)
        turns.append("" if head is None else head.kind)
        return head

    monkeypatch.setattr(queries, "find_next_job", note_turn)

    def submit_both(_: JobContext[Any]) -> None:
        stage.submit("neighbours", kind="knn", params={})
        stage.submit("late")
        stage.wait_for(lambda: turns.count("knn") >= 2, "a look at the queues")

    stage.engine.work["first"] = submit_both
    stage.submit("first")
    stage.run()
    assert stage.engine.began == ["first", "knn", "late"]


def test_what_becomes_of_one_is_its_own(stage: Stage) -> None:
    together = threading.Barrier(4)

    def stop(context: JobContext[Any]) -> None:
        together.wait(20)
        transitions.cancel(stage.services.database, stage.ids["cancelled"])
        while True:
            context.report(stage="waiting", done=0, total=1, unit="looks")

    def refuse(_: JobContext[Any]) -> None:
        together.wait(20)
        raise JobFailedError("no-such-thing", "There is none.")

    def break_down(_: JobContext[Any]) -> None:
        together.wait(20)
        raise ZeroDivisionError

    def outlast(_: JobContext[Any]) -> None:
        together.wait(20)
        stage.wait_for(lambda: all(stage.read(name).finished_at for name in stage.ids if name != "good"), "the others")

    stage.engine.work |= {"cancelled": stop, "refused": refuse, "broken": break_down, "good": outlast}
    for name in stage.engine.work:
        stage.submit(name)
    stage.run()
    states = {name: stage.read(name).state for name in stage.ids}
    assert states == {
        "cancelled": State.CANCELLED,
        "refused": State.FAILED,
        "broken": State.FAILED,
        "good": State.SUCCEEDED,
    }


@pytest.mark.parametrize("order", [("weak", "other"), ("other", "weak")], ids=["joins", "is-joined"])
def test_a_job_on_its_last_attempt_runs_alone(stage: Stage, order: tuple[str, str]) -> None:
    """Whatever takes a process with it is then the only one that fails."""
    for name in order:
        stage.submit(name, max_attempts=3)
    with stage.services.database.writing() as session:
        session.execute(update(Job).where(Job.id == stage.ids["weak"]).values(attempt=2))
    stage.engine.work[order[0]] = stage.wait_for_looks
    stage.run()
    assert stage.engine.began == [*order]
    assert stage.engine.asked == []


def test_nobody_joins_a_worker_that_is_told_to_go(stage: Stage) -> None:
    stage.submit("first")
    stage.submit("second")
    stage.pulse.close()
    stage.engine.work["first"] = stage.wait_for_looks
    stage.check_only_first_runs()


def test_a_shift_ends_and_somebody_else_is_rung(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.submit("first")
    stage.submit("second")
    monkeypatch.setattr(runner, "MAX_CLAIM_LOOP_S", 0)
    stage.check_only_first_runs()


def test_a_job_that_has_to_be_killed_does_not_take_its_neighbour_with_it(
    services: Services, start_worker: Callable[[], ServiceProcess], make_gate: Callable[[], Gate]
) -> None:
    """It is queued again at once: no sweeper runs here that could find its lease to have run out."""
    start_worker()
    deaf, neighbour = make_gate(), make_gate()
    deaf.submit(deaf=True, shares=True)
    neighbour.submit(shares=True)
    child = deaf.wait_for_child()
    assert neighbour.wait_for_child() == child
    transitions.cancel(services.database, deaf.job_id)
    deaf.wait_for(State.CANCELLED)
    neighbour.wait_for_child(other_than=child)
    neighbour.open()
    assert neighbour.wait_for(State.SUCCEEDED).attempt == 2
