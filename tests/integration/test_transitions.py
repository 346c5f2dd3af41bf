"""Transitions of jobs, on SQLite and PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, update

from shared.database import outbox, queries, statements, transitions
from shared.database.connection import now
from shared.database.tables import Artifact, Job, JobEvent
from shared.errors import ConflictError, IdempotencyError, NotFoundError
from shared.files.keys import artifact_key
from shared.ids import make_id
from shared.jobs import (
    CANCELLED,
    ENDED,
    TIMED_OUT,
    TRANSITIONS,
    WORKER_LOST,
    DeviceClass,
    EventKind,
    HeartbeatReply,
    Kind,
    Lease,
    Outcome,
    Progress,
    State,
    StoredFile,
    WorkerIdentity,
)
from shared.retry_delay import RetryDelay
from shared.services import Services
from tests.support.database_clock import read_clock
from tests.support.waiting import DEADLINE_S

NO_DELAY = RetryDelay(0.0, 0.0)
DONE = Outcome(State.SUCCEEDED, result={"answer": 42})


@pytest.fixture
def submit(services: Services) -> Callable[..., Job]:
    def submit_one(timeout_s: float = DEADLINE_S, **columns: Any) -> Job:
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


WORKER = WorkerIdentity({Kind.KNN: "mindspore"}, DeviceClass.CPU, "w1", lease_s=DEADLINE_S)


def claim(services: Services, job_id: str | None = None, **changes: Any) -> Job | None:
    return transitions.claim(services.database, replace(WORKER, **changes), job_id)


def claim_one(services: Services, **changes: Any) -> Lease:
    job = claim(services, **changes)
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
        return [event.data["state"] for event in events]


def test_a_submitted_job_is_queued_with_the_times_of_the_database_clock(
    services: Services, submit: Callable[..., Job]
) -> None:
    before = read_clock(services.database)
    job = submit(timeout_s=30.0)
    assert job.state == State.QUEUED
    assert before <= job.created_at <= read_clock(services.database)
    assert (job.deadline_at - job.created_at).total_seconds() == pytest.approx(30, abs=0.1)
    assert list_states(services, job.id) == ["queued"]


def test_jobs_are_claimed_in_the_order_of_priority_then_age(services: Services, submit: Callable[..., Job]) -> None:
    low, first, second, high = (submit(priority=priority) for priority in (1, 5, 5, 9))
    claimed = [claim_one(services).job_id for _ in range(4)]
    assert claimed == [high.id, first.id, second.id, low.id]
    assert claim(services) is None


def test_a_claim_respects_kind_device_and_availability(services: Services, submit: Callable[..., Job]) -> None:
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


def test_a_claim_returns_the_best_job_of_all_kinds(services: Services, submit: Callable[..., Job]) -> None:
    engines = {Kind.KNN: "mindspore", Kind.MUSICGEN: "openvino"}
    jobs = [submit(), submit(kind=Kind.MUSICGEN), submit(), submit(kind=Kind.MUSICGEN, priority=9), submit(priority=7)]
    claimed = [claim(services, engines=engines) for _ in range(6)]
    assert [job and (job.id, job.engine) for job in claimed] == [
        *((jobs[index].id, engines[Kind(jobs[index].kind)]) for index in (3, 4, 0, 1, 2)),
        None,
    ]


def test_concurrent_claims_never_return_the_same_job(services: Services, submit: Callable[..., Job]) -> None:
    jobs = {submit().id for _ in range(40)}
    start = threading.Barrier(8)

    def drain(worker: int) -> list[str]:
        start.wait()
        claimed = []
        while (job := claim(services, worker=f"w{worker}")) is not None:
            claimed.append(job.id)
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claimed = [job_id for part in pool.map(drain, range(8)) for job_id in part]
    assert sorted(claimed) == sorted(jobs)


def test_a_heartbeat_extends_the_lease_and_writes_progress(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    lease = claim_one(services, lease_s=10.0)
    before = read_clock(services.database)
    reply = transitions.heartbeat(services.database, lease, Progress("evaluating", 3, 9, "rows"), 100.0)
    after = read(services, job.id)
    assert reply == HeartbeatReply(cancel_requested=False, timed_out=False)
    assert after.lease_until is not None
    assert before <= after.lease_until - timedelta(seconds=100) <= read_clock(services.database)
    assert (after.progress_stage, after.progress_done, after.progress_total, after.progress_unit) == (
        "evaluating",
        3,
        9,
        "rows",
    )
    with services.database.reading() as session:
        progress_event = session.scalars(select(JobEvent).where(JobEvent.kind == EventKind.PROGRESS)).one()
    assert progress_event.data == {"stage": "evaluating", "done": 3, "total": 9, "unit": "rows"}


def test_a_heartbeat_records_the_start_time_and_initial_progress_of_a_stage(
    services: Services, submit: Callable[..., Job]
) -> None:
    job = submit()
    lease = claim_one(services)
    assert read_stage_start(services, job.id) == (None, None)
    transitions.heartbeat(services.database, lease, None, 60.0)
    assert read_stage_start(services, job.id) == (None, None)
    steps = [
        # the reported progress, and whether a stage starts with this report
        (Progress("loading", 3, 9, "weights"), True),
        (Progress("loading", 5, 9, "weights"), False),
        (Progress("loading", 5, 10, "weights"), False),
        (None, False),
        (Progress("generating", 400, 1500, "tokens"), True),  # generation resumes from a checkpoint
        (Progress("generating", 401, 1500, "tokens"), False),
        (Progress("loading", 500, 1500, "weights"), True),
        (Progress("loading", 0, 1500, "weights"), True),  # the stage starts again with the next file
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
    """Return how many seconds ago the current stage started, and how much of it was done at its start."""
    job = read(services, job_id)
    age_s = None if job.stage_started_at is None else (datetime.now(UTC) - job.stage_started_at).total_seconds()
    return age_s, job.stage_started_done


def test_a_heartbeat_executes_one_update_and_inserts_an_event_only_for_progress(
    services: Services, submit: Callable[..., Job]
) -> None:
    submit()
    lease = claim_one(services)
    with recorded_statements(services) as executed:
        transitions.heartbeat(services.database, lease, Progress("loading", 3, 9, "weights"), 60.0)
        transitions.heartbeat(services.database, lease, None, 60.0)
    assert executed == ["UPDATE jobs", "INSERT job_events", "UPDATE jobs"]


@contextmanager
def recorded_statements(services: Services) -> Iterator[list[str]]:
    """For each statement that the block executes, record its verb and its table, such as ``UPDATE jobs``."""
    executed: list[str] = []

    def record(*arguments: Any) -> None:
        words = arguments[2].split()
        if words[0] != "BEGIN":
            executed.append(f"{words[0]} {words[1 if words[0] == 'UPDATE' else 2]}")

    event.listen(services.database.engine, "before_cursor_execute", record)
    yield executed
    event.remove(services.database.engine, "before_cursor_execute", record)


def test_the_reply_to_a_heartbeat_reports_a_cancel_request_and_a_passed_deadline(
    services: Services, submit: Callable[..., Job]
) -> None:
    job = submit()
    lease = claim_one(services)
    assert transitions.cancel(services.database, job.id).cancel_requested
    with services.database.writing() as session:
        session.execute(update(Job).values(deadline_at=now(-1)))
    assert transitions.heartbeat(services.database, lease, None, 60.0) == HeartbeatReply(
        cancel_requested=True, timed_out=True
    )


def make_file(name: str, lease: Lease) -> StoredFile:
    return StoredFile(name, artifact_key(lease.job_id, lease.attempt, name), "text/csv", 3, "f" * 64)


def list_recorded(services: Services, job_id: str) -> list[str]:
    with services.database.reading() as session:
        query = select(Artifact.key).where(Artifact.job_id == job_id).order_by(Artifact.name)
        return [key.removeprefix(f"jobs/{job_id}/") for key in session.scalars(query)]


def list_published(services: Services, job_id: str) -> list[str]:
    """List the artifacts that clients can see, and check that the three queries for artifacts agree."""
    with services.database.reading() as session:
        names = [artifact.name for artifact in queries.list_artifacts_of(session, job_id)]
        assert [artifact.name for artifact in queries.list_artifacts(session, [job_id])[job_id]] == names
        assert [queries.get_artifact(session, job_id, name).name for name in names] == names
        for name in {"a.csv", "b.csv"} - set(names):
            with pytest.raises(NotFoundError):
                queries.get_artifact(session, job_id, name)
    return names


def list_artifact_events(services: Services, job_id: str) -> list[str]:
    with services.database.reading() as session:
        events = queries.read_events(session, job_id, 0).events
    return [event.data["name"] for event in events if event.kind == EventKind.ARTIFACT]


def test_files_recorded_by_a_heartbeat_are_published_when_the_job_succeeds(
    services: Services, submit: Callable[..., Job]
) -> None:
    job = submit()
    lease = claim_one(services)
    first, second = make_file("a.csv", lease), make_file("b.csv", lease)
    assert transitions.heartbeat(services.database, lease, None, 60.0, [first]) is not None
    assert list_recorded(services, job.id) == ["1/a.csv"]
    assert list_published(services, job.id) == []
    assert list_artifact_events(services, job.id) == []
    transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {}, files=(first, second)))
    assert list_recorded(services, job.id) == ["1/a.csv", "1/b.csv"]
    assert list_published(services, job.id) == ["a.csv", "b.csv"]
    assert list_artifact_events(services, job.id) == ["a.csv", "b.csv"]


def test_a_heartbeat_without_the_lease_records_nothing(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    stale = claim_one(services)
    transitions.recover_lost(services.database, stale, NO_DELAY)
    fresh = claim_one(services)
    transitions.heartbeat(services.database, fresh, None, 60.0, [make_file("a.csv", fresh)])
    assert transitions.heartbeat(services.database, stale, None, 60.0, [make_file("a.csv", stale)]) is None
    assert list_recorded(services, job.id) == ["2/a.csv"]


def test_a_later_attempt_replaces_files_of_the_same_name_and_success_removes_other_old_files(
    services: Services, submit: Callable[..., Job]
) -> None:
    job = submit()
    first = claim_one(services)
    files = [make_file(name, first) for name in ("a.csv", "b.csv")]
    transitions.heartbeat(services.database, first, None, 60.0, files)
    transitions.recover_lost(services.database, first, NO_DELAY)
    assert list_recorded(services, job.id) == ["1/a.csv", "1/b.csv"]
    second = claim_one(services)
    file = make_file("a.csv", second)
    for _ in range(2):  # a worker repeats a heartbeat if it does not learn that the first one succeeded
        transitions.heartbeat(services.database, second, Progress("x", 1, 1, "x"), 60.0, [file])
    assert list_recorded(services, job.id) == ["2/a.csv", "1/b.csv"]
    assert transitions.finish(services.database, second, Outcome(State.SUCCEEDED, {}, files=(file,)))
    assert list_recorded(services, job.id) == ["2/a.csv"]


@pytest.mark.parametrize("outcome", [CANCELLED, TIMED_OUT, WORKER_LOST])
def test_an_attempt_that_does_not_succeed_leaves_no_artifacts(
    services: Services, submit: Callable[..., Job], outcome: Outcome
) -> None:
    job = submit()
    lease = claim_one(services)
    file = make_file("a.csv", lease)
    transitions.heartbeat(services.database, lease, None, 60.0, [file])
    assert transitions.finish(services.database, lease, replace(outcome, files=(file,)))
    assert list_recorded(services, job.id) == []
    assert list_artifact_events(services, job.id) == []


def test_a_recovered_job_that_ends_without_success_leaves_no_artifacts(
    services: Services, submit: Callable[..., Job]
) -> None:
    lost, cancelled, late = submit(max_attempts=1), submit(), submit()
    leases = {lease.job_id: lease for lease in (claim_one(services) for _ in range(3))}
    for lease in leases.values():
        transitions.heartbeat(services.database, lease, None, 60.0, [make_file("a.csv", lease)])
    transitions.recover_lost(services.database, leases[lost.id], NO_DELAY)
    for job in (cancelled, late):
        transitions.recover_lost(services.database, leases[job.id], RetryDelay(60.0, 60.0))
        assert list_recorded(services, job.id) == ["1/a.csv"]
    transitions.cancel(services.database, cancelled.id)
    with services.database.writing() as session:
        session.execute(update(Job).where(Job.id == late.id).values(deadline_at=now(-1)))
    assert [job.id for job in transitions.expire_queued(services.database)] == [late.id]
    for job in (lost, cancelled, late):
        assert list_recorded(services, job.id) == []


def test_finishing_a_job_keeps_the_artifacts_of_other_jobs(services: Services, submit: Callable[..., Job]) -> None:
    jobs = [submit(), submit()]
    leases = [claim_one(services) for _ in jobs]
    transitions.heartbeat(services.database, leases[0], None, 60.0, [make_file("a.csv", leases[0])])
    with recorded_statements(services) as executed:
        transitions.finish(services.database, leases[1], CANCELLED)
    assert executed == ["UPDATE jobs", "INSERT job_events"]
    assert list_recorded(services, jobs[0].id) == ["1/a.csv"]


def test_finishing_a_job_executes_no_delete_statement_if_no_artifact_was_recorded_before(
    services: Services, submit: Callable[..., Job]
) -> None:
    submit()
    lease = claim_one(services)
    files = tuple(make_file(name, lease) for name in ("a.csv", "b.csv"))
    with recorded_statements(services) as executed:
        transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {}, files=files))
    assert executed == ["UPDATE jobs", "INSERT artifacts", "INSERT job_events", "INSERT job_events"]


def test_success_stores_the_result_and_the_files(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    lease = claim_one(services)
    file = make_file("a.csv", lease)
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


def test_an_earlier_attempt_can_no_longer_change_the_job(services: Services, submit: Callable[..., Job]) -> None:
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


def test_a_job_whose_lease_has_not_expired_is_not_recovered(services: Services, submit: Callable[..., Job]) -> None:
    submit()
    lease = claim_one(services, lease_s=DEADLINE_S)
    assert transitions.recover_expired(services.database, NO_DELAY) == []
    assert transitions.finish(services.database, lease, DONE)


def test_a_lost_job_waits_longer_each_time_and_fails_after_its_last_attempt(
    services: Services, submit: Callable[..., Job]
) -> None:
    job = submit(max_attempts=3)
    delay = RetryDelay(first_s=10.0, max_s=15.0)
    for delay_s in (10, 15):
        claim_one(services, lease_s=-1.0)
        before = read_clock(services.database)
        (lost,) = transitions.recover_expired(services.database, delay)
        assert (lost.state, lost.worker) == (State.QUEUED, None)
        available_at = read(services, lost.id).available_at
        assert before <= available_at - timedelta(seconds=delay_s) <= read_clock(services.database)
        with services.database.writing() as session:
            session.execute(update(Job).values(available_at=now()))
    claim_one(services, lease_s=-1.0)
    (failed,) = transitions.recover_expired(services.database, delay)
    assert failed.state == State.FAILED
    assert failed.error is not None
    assert failed.error["type"] == "worker-lost"
    assert list_states(services, job.id) == ["queued", *["running", "queued"] * 2, "running", "failed"]


def test_a_lost_job_with_a_cancel_request_is_cancelled(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    claim_one(services, lease_s=-1.0)
    transitions.cancel(services.database, job.id)
    (cancelled,) = transitions.recover_expired(services.database, NO_DELAY)
    assert cancelled.state == State.CANCELLED


def test_concurrent_sweepers_recover_a_lost_job_once(services: Services, submit: Callable[..., Job]) -> None:
    jobs = {submit().id for _ in range(20)}
    for _ in jobs:
        claim_one(services, lease_s=-1.0)
    with ThreadPoolExecutor(4) as pool:
        recovered = [
            job.id
            for part in pool.map(lambda _: transitions.recover_expired(services.database, NO_DELAY), range(4))
            for job in part
        ]
    assert sorted(recovered) == sorted(jobs)


def test_the_jobs_of_a_stopping_worker_are_queued_again(services: Services, submit: Callable[..., Job]) -> None:
    own, other = submit(max_attempts=1), submit()
    stale = claim_one(services, worker="w1")
    claim_one(services, worker="w2")
    assert [job.id for job in transitions.requeue_jobs_of(services.database, "w1")] == [own.id]
    assert read(services, own.id).state == State.QUEUED
    assert read(services, other.id).state == State.RUNNING
    assert not transitions.finish(services.database, stale, DONE)


def test_queued_and_running_jobs_can_be_cancelled_and_ended_jobs_cannot(
    services: Services, submit: Callable[..., Job]
) -> None:
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


def test_a_queued_job_fails_at_its_deadline(services: Services, submit: Callable[..., Job]) -> None:
    late, early = submit(timeout_s=-1.0), submit()
    assert claim_one(services).job_id == early.id
    (failed,) = transitions.expire_queued(services.database)
    assert failed.id == late.id
    assert failed.error is not None
    assert failed.error["type"] == "timeout"


def test_only_ended_jobs_can_be_deleted(services: Services, submit: Callable[..., Job]) -> None:
    job = submit()
    with pytest.raises(ConflictError, match="queued"):
        transitions.delete_job(services.database, job.id)
    lease = claim_one(services)
    outcome = Outcome(State.SUCCEEDED, {}, files=(make_file("a.csv", lease),))
    transitions.finish(services.database, lease, outcome)
    transitions.delete_job(services.database, job.id)
    with services.database.reading() as session:
        assert session.scalars(select(JobEvent)).all() == []
        assert session.scalars(select(Artifact)).all() == []
    with pytest.raises(NotFoundError):
        transitions.delete_job(services.database, job.id)


def test_concurrent_requests_with_one_idempotency_key_create_one_job(
    services: Services, submit: Callable[..., Job]
) -> None:
    start = threading.Barrier(50)

    def request(_: int) -> str:
        start.wait()
        return submit(idempotency_key="once").id

    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(request, range(50)))
    assert len(ids) == 1
    with services.database.reading() as session:
        assert len(session.scalars(select(Job)).all()) == 1
    assert list_states(services, ids.pop()) == ["queued"]
    with pytest.raises(IdempotencyError):
        submit(idempotency_key="once", request_sha256="1" * 64)


@pytest.mark.parametrize("held", [True, False])
def test_one_transaction_finishes_a_job_and_claims_the_next_job(
    services: Services, submit: Callable[..., Job], *, held: bool
) -> None:
    jobs = [submit(), submit()]
    lease = claim_one(services)
    if not held:
        transitions.recover_lost(services.database, lease, RetryDelay(60.0, 60.0))
    commits: list[object] = []
    event.listen(services.database.engine, "commit", commits.append)
    finished, claimed = transitions.finish_and_claim(services.database, lease, DONE, WORKER)
    assert len(commits) == 1
    assert finished is held
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.worker, claimed.params) == (
        jobs[1].id,
        "running",
        "w1",
        {"k": 5},
    )
    assert read(services, jobs[0].id).state == ("succeeded" if held else "queued")
    reply = transitions.finish_and_claim(services.database, Lease(claimed.id, 1), DONE, WORKER)
    assert reply == (True, None)


@pytest.mark.parametrize("to", list(State))
@pytest.mark.parametrize("source", list(State))
def test_only_the_listed_transitions_are_possible(
    services: Services, submit: Callable[..., Job], source: State, to: State
) -> None:
    job = submit()
    with services.database.writing() as session:
        session.execute(update(Job).values(state=source))
    with services.database.writing() as session:
        statement = statements.transition_statement(to, statements.COLUMNS.id == job.id)
        changed_rows = session.connection().execute(statement).rowcount
    assert changed_rows == (to in TRANSITIONS[source])


def test_no_transition_leaves_a_final_state() -> None:
    assert {state for state in State if not TRANSITIONS[state]} == ENDED


def test_a_transition_and_its_event_are_written_together_or_not_at_all(
    services: Services, submit: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit()

    def fail(*_: object) -> None:
        raise RuntimeError("the event could not be written")

    monkeypatch.setattr(outbox, "publish_states", fail)
    with pytest.raises(RuntimeError):
        claim(services)
    monkeypatch.undo()
    assert read(services, job.id).state == State.QUEUED
    assert list_states(services, job.id) == ["queued"]
