"""The state machine, on both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, update

from shared.database import queries, statements, transitions
from shared.database.connection import now
from shared.database.tables import Artifact, Job, JobEvent
from shared.errors import ConflictError, IdempotencyError, NotFoundError
from shared.ids import make_id
from shared.jobs import (
    CANCELLED,
    ENDED,
    TRANSITIONS,
    DeviceClass,
    EventKind,
    HeartbeatReply,
    Kind,
    Lease,
    Outcome,
    Progress,
    RetryDelay,
    State,
    StoredFile,
    WorkerIdentity,
)
from shared.services import Services

NO_DELAY = RetryDelay(0.0, 0.0)
DONE = Outcome(State.SUCCEEDED, result={"answer": 42})


@pytest.fixture
def submit(services: Services) -> Callable[..., Job]:
    def submit_one(timeout_s: float = 60.0, **columns: Any) -> Job:
        job = Job(
            **{
                "id": make_id(),
                "kind": Kind.KNN,
                "params": {"k": 5},
                "priority": 5,
                "wanted_device": "cpu",
                "device": "cpu",
                "max_attempts": 3,
                "request_sha256": "0" * 64,
            }
            | columns
        )
        return transitions.submit(services.database, job, timeout_s)[0]

    return submit_one


CLAIMANT = WorkerIdentity({Kind.KNN: "mindspore"}, DeviceClass.CPU, "w1", lease_s=60.0)


def claim(services: Services, job_id: str | None = None, **others: Any) -> Job | None:
    return transitions.claim(services.database, replace(CLAIMANT, **others), job_id)


def claim_one(services: Services, **others: Any) -> Lease:
    job = claim(services, **others)
    assert job is not None
    return Lease(job.id, job.attempt)


def read(services: Services, job_id: str) -> Job:
    with services.database.reading() as session:
        return queries.get_job(session, job_id)


def list_states(services: Services, job_id: str) -> list[str]:
    with services.database.reading() as session:
        events = session.scalars(
            select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == EventKind.STATE).order_by(JobEvent.id)
        )
        return [written.data["state"] for written in events]


def test_a_submitted_job_is_queued_with_the_databases_time(services: Services, submit: Callable[..., Job]) -> None:
    job = submit(timeout_s=30.0)
    assert job.state == State.QUEUED
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=5)
    assert (job.deadline_at - job.created_at).total_seconds() == pytest.approx(30, abs=0.1)
    assert list_states(services, job.id) == ["queued"]


def test_claims_take_priority_first_then_age(services: Services, submit: Callable[..., Job]) -> None:
    low, first, second, high = (submit(priority=priority) for priority in (1, 5, 5, 9))
    claimed = [claim_one(services).job_id for _ in range(4)]
    assert claimed == [high.id, first.id, second.id, low.id]
    assert claim(services) is None


def test_a_claim_looks_at_kind_device_and_moment(services: Services, submit: Callable[..., Job]) -> None:
    submit(kind=Kind.MUSICGEN)
    submit(wanted_device="gpu", device="gpu")
    late = submit()
    with services.database.writing() as session:
        session.execute(update(Job).where(Job.id == late.id).values(available_at=now(60)))
    assert claim(services) is None
    auto = submit(wanted_device="auto", device=None)
    job = claim(services)
    assert job is not None
    assert (job.id, job.device, job.attempt, job.worker) == (auto.id, "cpu", 1, "w1")


def test_a_claim_takes_the_best_of_all_kinds(services: Services, submit: Callable[..., Job]) -> None:
    engines = {Kind.KNN: "mindspore", Kind.MUSICGEN: "openvino"}
    jobs = [submit(), submit(kind=Kind.MUSICGEN), submit(), submit(kind=Kind.MUSICGEN, priority=9), submit(priority=7)]
    claimed = [claim(services, engines=engines) for _ in range(6)]
    assert [job and (job.id, job.engine) for job in claimed] == [
        *((jobs[index].id, engines[Kind(jobs[index].kind)]) for index in (3, 4, 0, 1, 2)),
        None,
    ]


def test_racing_claims_never_share_a_job(services: Services, submit: Callable[..., Job]) -> None:
    jobs = {submit().id for _ in range(40)}
    start = threading.Barrier(8)

    def drain(worker: int) -> list[str]:
        start.wait()
        taken = []
        while (job := claim(services, worker=f"w{worker}")) is not None:
            taken.append(job.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [job_id for part in pool.map(drain, range(8)) for job_id in part]
    assert sorted(taken) == sorted(jobs)


def test_a_beat_prolongs_the_lease_and_writes_progress(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    lease = claim_one(services, lease_s=10.0)
    before = read(services, job.id).lease_until
    answer = transitions.heartbeat(services.database, lease, Progress("evaluating", 3, 9, "rows"), 100.0)
    after = read(services, job.id)
    assert answer == HeartbeatReply(cancel_requested=False, timed_out=False)
    assert before is not None
    assert after.lease_until is not None
    assert (after.lease_until - before).total_seconds() == pytest.approx(90, abs=5)
    assert (after.progress_stage, after.progress_done, after.progress_total, after.progress_unit) == (
        "evaluating",
        3,
        9,
        "rows",
    )
    with services.database.reading() as session:
        written = session.scalars(select(JobEvent).where(JobEvent.kind == EventKind.PROGRESS)).one()
    assert written.data == {"stage": "evaluating", "done": 3, "total": 9, "unit": "rows"}


def test_a_beat_keeps_when_the_stage_started_and_with_how_much_done(
    services: Services, submit: Callable[..., Job]
) -> None:
    job = submit()
    lease = claim_one(services)
    assert read_stage_start(services, job.id) == (None, None)
    transitions.heartbeat(services.database, lease, None, 60.0)
    assert read_stage_start(services, job.id) == (None, None)
    steps = [
        # progress, whether the stage starts with it
        (Progress("loading", 3, 9, "weights"), True),
        (Progress("loading", 5, 9, "weights"), False),
        (Progress("loading", 5, 10, "weights"), False),
        (None, False),
        (Progress("generating", 400, 1500, "tokens"), True),  # goes on from a checkpoint
        (Progress("generating", 401, 1500, "tokens"), False),
        (Progress("loading", 500, 1500, "weights"), True),
        (Progress("loading", 0, 1500, "weights"), True),  # the next one of several
    ]
    started_done: int | None = None
    for progress, starts in steps:
        with services.database.writing() as session:
            session.execute(update(Job).values(stage_started_at=now(-1_000)))
        transitions.heartbeat(services.database, lease, progress, 60.0)
        if starts:
            assert progress is not None
            started_done = progress.done
        age_s, done = read_stage_start(services, job.id)
        assert done == started_done, progress
        assert age_s is not None
        assert (age_s < 500) == starts, progress
    transitions.recover_lost(services.database, lease, NO_DELAY)
    claim_one(services)
    assert read_stage_start(services, job.id) == (None, None)


def read_stage_start(services: Services, job_id: str) -> tuple[float | None, int | None]:
    """Return how many seconds ago the stage started, and how much was done then."""
    job = read(services, job_id)
    age_s = None if job.stage_started_at is None else (datetime.now(UTC) - job.stage_started_at).total_seconds()
    return age_s, job.stage_started_done


def test_a_beat_is_one_statement_and_its_event(services: Services, submit: Callable[..., Job]) -> None:
    submit()
    lease = claim_one(services)
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2].split()[0])

    event.listen(services.database.engine, "before_cursor_execute", note)
    transitions.heartbeat(services.database, lease, Progress("loading", 3, 9, "weights"), 60.0)
    transitions.heartbeat(services.database, lease, None, 60.0)
    event.remove(services.database.engine, "before_cursor_execute", note)
    assert [word for word in statements if word != "BEGIN"] == ["UPDATE", "INSERT", "UPDATE"]


def test_a_beat_tells_of_cancel_and_deadline(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    lease = claim_one(services)
    assert transitions.cancel(services.database, job.id).cancel_requested
    with services.database.writing() as session:
        session.execute(update(Job).values(deadline_at=now(-1)))
    assert transitions.heartbeat(services.database, lease, None, 60.0) == HeartbeatReply(
        cancel_requested=True, timed_out=True
    )


def test_finishing_stores_the_result_and_the_files(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    lease = claim_one(services)
    file = StoredFile("a.csv", f"jobs/{job.id}/1/a.csv", "text/csv", 3, "f" * 64)
    assert transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {"answer": 42}, files=(file,)))
    ended = read(services, job.id)
    assert (ended.state, ended.result, ended.lease_until) == (State.SUCCEEDED, {"answer": 42}, None)
    assert ended.finished_at is not None
    with services.database.reading() as session:
        artifact = session.scalars(select(Artifact)).one()
        kinds = session.scalars(select(JobEvent.kind).order_by(JobEvent.id)).all()
    assert (artifact.name, artifact.bytes, artifact.sha256) == ("a.csv", 3, "f" * 64)
    assert sorted(kinds) == ["artifact", "state", "state", "state"]
    assert list_states(services, job.id) == ["queued", "running", "succeeded"]


def test_the_fence_keeps_an_earlier_attempt_out(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    stale = claim_one(services, lease_s=-1.0)
    assert [lost.id for lost in transitions.recover_expired(services.database, NO_DELAY)] == [job.id]
    fresh = claim_one(services, worker="w2")
    assert fresh.attempt == 2
    assert transitions.heartbeat(services.database, stale, Progress("x", 1, 1, "x"), 60.0) is None
    assert not transitions.finish(services.database, stale, DONE)
    assert not transitions.recover_lost(services.database, stale, NO_DELAY)
    assert read(services, job.id).state == State.RUNNING
    assert transitions.finish(services.database, fresh, DONE)
    assert not transitions.finish(services.database, fresh, DONE)


def test_a_lease_that_holds_is_left_alone(services: Services, submit: Callable[..., Job]) -> None:
    submit()
    lease = claim_one(services, lease_s=60.0)
    assert transitions.recover_expired(services.database, NO_DELAY) == []
    assert transitions.finish(services.database, lease, DONE)


def test_a_lost_job_waits_longer_each_time_and_fails_at_last(services: Services, submit: Callable[..., Job]) -> None:
    job = submit(max_attempts=3)
    delay = RetryDelay(first_s=10.0, max_s=15.0)
    for pause_s in (10, 15):
        claim_one(services, lease_s=-1.0)
        (lost,) = transitions.recover_expired(services.database, delay)
        assert (lost.state, lost.worker) == (State.QUEUED, None)
        assert (read(services, lost.id).available_at - datetime.now(UTC)).total_seconds() == pytest.approx(
            pause_s, abs=3
        )
        with services.database.writing() as session:
            session.execute(update(Job).values(available_at=now()))
    claim_one(services, lease_s=-1.0)
    (failed,) = transitions.recover_expired(services.database, delay)
    assert failed.state == State.FAILED
    assert failed.error is not None
    assert failed.error["type"] == "worker-lost"
    assert list_states(services, job.id) == ["queued", *["running", "queued"] * 2, "running", "failed"]


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    claim_one(services, lease_s=-1.0)
    transitions.cancel(services.database, job.id)
    (cancelled,) = transitions.recover_expired(services.database, NO_DELAY)
    assert cancelled.state == State.CANCELLED


def test_two_sweepers_take_a_lost_job_once(services: Services, submit: Callable[..., Job]) -> None:
    jobs = {submit().id for _ in range(20)}
    for _ in jobs:
        claim_one(services, lease_s=-1.0)
    with ThreadPoolExecutor(4) as pool:
        swept = [
            job.id
            for part in pool.map(lambda _: transitions.recover_expired(services.database, NO_DELAY), range(4))
            for job in part
        ]
    assert sorted(swept) == sorted(jobs)


def test_releasing_hands_a_workers_jobs_back(services: Services, submit: Callable[..., Job]) -> None:
    mine, other = submit(max_attempts=1), submit()
    stale = claim_one(services, worker="w1")
    claim_one(services, worker="w2")
    assert [job.id for job in transitions.requeue_jobs_of(services.database, "w1")] == [mine.id]
    assert read(services, mine.id).state == State.QUEUED
    assert read(services, other.id).state == State.RUNNING
    assert not transitions.finish(services.database, stale, DONE)


def test_cancelling_queued_running_and_ended_jobs(services: Services, submit: Callable[..., Job]) -> None:
    queued = submit(priority=0)
    running = submit()
    lease = claim_one(services)
    assert transitions.cancel(services.database, queued.id).state == State.CANCELLED
    assert transitions.cancel(services.database, running.id).state == State.RUNNING
    assert transitions.finish(services.database, lease, CANCELLED)
    for job in (queued, running):
        with pytest.raises(ConflictError, match="cancelled"):
            transitions.cancel(services.database, job.id)
    with pytest.raises(NotFoundError):
        transitions.cancel(services.database, make_id())


def test_a_queued_job_times_out(services: Services, submit: Callable[..., Job]) -> None:
    late, early = submit(timeout_s=-1.0), submit(timeout_s=60.0)
    assert claim_one(services).job_id == early.id
    (failed,) = transitions.expire_queued(services.database)
    assert failed.id == late.id
    assert failed.error is not None
    assert failed.error["type"] == "timeout"


def test_only_ended_jobs_are_removed(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    with pytest.raises(ConflictError, match="queued"):
        transitions.delete_job(services.database, job.id)
    file = StoredFile("a.csv", "jobs/x/1/a.csv", "text/csv", 3, "f" * 64)
    transitions.finish(services.database, claim_one(services), Outcome(State.SUCCEEDED, {}, files=(file,)))
    transitions.delete_job(services.database, job.id)
    with services.database.reading() as session:
        assert session.scalars(select(JobEvent)).all() == []
        assert session.scalars(select(Artifact)).all() == []
    with pytest.raises(NotFoundError):
        transitions.delete_job(services.database, job.id)


def test_one_idempotency_key_makes_one_job_however_many_ask_at_once(
    services: Services, submit: Callable[..., Job]
) -> None:
    start = threading.Barrier(50)

    def ask(_: int) -> str:
        start.wait()
        return submit(idempotency_key="once").id

    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(ask, range(50)))
    assert len(ids) == 1
    with services.database.reading() as session:
        assert len(session.scalars(select(Job)).all()) == 1
    assert list_states(services, ids.pop()) == ["queued"]
    with pytest.raises(IdempotencyError):
        submit(idempotency_key="once", request_sha256="1" * 64)


@pytest.mark.parametrize("held", [True, False])
def test_the_next_job_is_claimed_with_the_end_of_one_in_one_transaction(
    services: Services, submit: Callable[..., Job], *, held: bool
) -> None:
    jobs = [submit(), submit()]
    lease = claim_one(services)
    if not held:
        transitions.recover_lost(services.database, lease, RetryDelay(60.0, 60.0))
    commits: list[object] = []
    event.listen(services.database.engine, "commit", commits.append)
    counted, following = transitions.finish_and_claim(services.database, lease, DONE, CLAIMANT)
    assert len(commits) == 1
    assert counted is held
    assert following is not None
    assert (following.id, following.state, following.worker, following.params) == (
        jobs[1].id,
        "running",
        "w1",
        {"k": 5},
    )
    assert read(services, jobs[0].id).state == ("succeeded" if held else "queued")
    again = transitions.finish_and_claim(services.database, Lease(following.id, 1), DONE, CLAIMANT)
    assert again == (True, None)


@pytest.mark.parametrize("to", list(State))
@pytest.mark.parametrize("source", list(State))
def test_no_step_leaves_the_table_of_edges(
    services: Services, submit: Callable[..., Job], source: State, to: State
) -> None:
    job = submit()
    with services.database.writing() as session:
        session.execute(update(Job).values(state=source))
    with services.database.writing() as session:
        moved = (
            session.connection().execute(statements.transition_statement(to, statements.COLUMNS.id == job.id)).rowcount
        )
    assert moved == (to in TRANSITIONS[source])


def test_ended_states_have_no_way_out() -> None:
    assert {state for state in State if not TRANSITIONS[state]} == ENDED


def test_a_step_and_its_event_are_written_together_or_not_at_all(
    services: Services, submit: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit()

    def fail(*_: object) -> None:
        raise RuntimeError("the event could not be written")

    monkeypatch.setattr(transitions, "_insert_events", fail)
    with pytest.raises(RuntimeError):
        claim(services)
    monkeypatch.undo()
    assert read(services, job.id).state == State.QUEUED
    assert list_states(services, job.id) == ["queued"]
