"""Nothing waits longer, and nothing lost is found later, because the clock of the database was set back.

To set the clock back by a time is the same as to move all stored times forward by this time, which a test can do.
"""

from datetime import timedelta

import pytest
from sqlalchemy import insert, update
from sqlalchemy.orm import InstrumentedAttribute

from shared.database import queries, transitions
from shared.database.connection import now
from shared.database.tables import Delivery, Job, Worker
from shared.ids import make_id
from shared.jobs import DeviceClass, Kind, State, WorkerIdentity
from shared.maintenance.__main__ import sweep
from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.database_clock import read_clock
from tests.support.job_outcomes import start_job

SET_BACK_S = 86_400.0
WORKER = WorkerIdentity({Kind.KNN: "mindspore"}, DeviceClass.CPU, "box:1", lease_s=15.0)


def set_clock_back(services: Services, *columns: InstrumentedAttribute[object]) -> None:
    with services.database.writing() as session:
        for column in columns:
            session.execute(update(column.class_).values({column: now(SET_BACK_S)}))


def submit(services: Services) -> str:
    return submit_job(services, {"kind": "knn", "device": "cpu"})[0].id


def test_queued_job_still_runs(services: Services) -> None:
    job_id = submit(services)
    set_clock_back(services, Job.available_at, Job.created_at)
    assert transitions.claim(services.database, WORKER) is None
    sweep(services)
    assert services.broker.count_pending_wakeups(Kind.KNN, DeviceClass.CPU) == 1
    claimed = transitions.claim(services.database, WORKER)
    assert claimed is not None
    assert claimed.id == job_id


def test_job_waits_for_its_next_attempt_no_longer_than_its_delay(services: Services) -> None:
    submit(services)
    lease = start_job(services)
    assert transitions.recover_lost(services.database, lease, services.settings.retry_delay)
    set_clock_back(services, Job.available_at)
    before = read_clock(services.database)
    sweep(services)
    with services.database.reading() as session:
        available_at = queries.get_job(session, lease.job_id).available_at
    delay = timedelta(seconds=services.settings.disk_full_delay.after(1))  # the longest that there is
    assert before + delay <= available_at <= read_clock(services.database) + delay


def test_delay_that_is_not_too_long_is_left_alone(services: Services) -> None:
    submit(services)
    lease = start_job(services)
    assert transitions.recover_lost(services.database, lease, services.settings.retry_delay)
    with services.database.reading() as session:
        before = queries.get_job(session, lease.job_id).available_at
    sweep(services)
    with services.database.reading() as session:
        assert queries.get_job(session, lease.job_id).available_at == before


def test_lease_of_a_lost_worker_expires(services: Services) -> None:
    submit(services)
    lease = start_job(services)
    set_clock_back(services, Job.lease_until)
    before = read_clock(services.database)
    sweep(services)
    with services.database.reading() as session:
        job = queries.get_job(session, lease.job_id)
    assert job.state == State.RUNNING
    assert job.lease_until is not None
    longest = timedelta(seconds=services.settings.lease_s)
    assert before + longest <= job.lease_until <= read_clock(services.database) + longest


def test_worker_that_has_stopped_does_not_count_as_live(services: Services) -> None:
    with services.database.writing() as session:
        values = {"device": "cpu", "device_index": 0, "kinds": ["knn"], "engines": {}, "beat_interval_s": 5.0}
        session.execute(insert(Worker).values(name="lost", started_at=now(), beat_at=now(SET_BACK_S), **values))
    sweep(services)
    with services.database.reading() as session:
        assert session.get_one(Worker, "lost").beat_at <= read_clock(services.database)


@pytest.mark.parametrize(("attempt", "delay_s"), [(0, 0.0), (1, 60.0), (6, 320.0)])
def test_message_to_a_webhook_waits_no_longer_than_its_delay(services: Services, attempt: int, delay_s: float) -> None:
    message_id = make_id()
    with services.database.writing() as session:
        message = {"id": message_id, "owner": "", "url": "https://192.0.2.1/hook", "data": {}, "attempt": attempt}
        session.execute(insert(Delivery).values(**message, created_at=now(), due_at=now(SET_BACK_S)))
    before = read_clock(services.database)
    sweep(services)
    with services.database.reading() as session:
        due_at = session.get_one(Delivery, message_id).due_at
    assert before + timedelta(seconds=delay_s) <= due_at <= read_clock(services.database) + timedelta(seconds=delay_s)
