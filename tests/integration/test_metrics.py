"""The metrics for Prometheus, on SQLite and PostgreSQL."""

from typing import Any

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, update

from shared import api_keys
from shared.database import queries, transitions, worker_queries
from shared.database.connection import Database, now
from shared.database.tables import Job, Worker
from shared.jobs import CANCELLED, DeviceClass
from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.job_outcomes import register_worker, start_job
from web import create_app
from web.context import get_context

Labels = frozenset[tuple[str, str]]


def read(client: FlaskClient, **headers: str) -> dict[tuple[str, Labels], float]:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/plain"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def get_value(metrics: dict[tuple[str, Labels], float], name: str, **labels: str) -> float:
    return metrics[f"mindjobs_{name}", frozenset(labels.items())]


def submit(services: Services, device: str, count: int = 1) -> list[str]:
    return [submit_job(services, {"kind": "knn", "device": device})[0].id for _ in range(count)]


def test_queued_and_running_jobs_are_counted_and_ended_jobs_are_not(client: FlaskClient, services: Services) -> None:
    register_worker(services, "busy", DeviceClass.CPU)
    register_worker(services, "idle", DeviceClass.CPU)
    register_worker(services, "lost", DeviceClass.GPU)
    with services.database.writing() as session:
        session.execute(update(Worker).where(Worker.name == "lost").values(beat_at=now(-3_600)))
    submit(services, "cpu", 4)
    transitions.finish(services.database, start_job(services, worker="idle"), CANCELLED)
    start_job(services, worker="busy")
    metrics = read(client)
    assert get_value(metrics, "jobs", kind="knn", device="cpu", state="queued") == 2
    assert get_value(metrics, "jobs", kind="knn", device="cpu", state="running") == 1
    assert get_value(metrics, "jobs", kind="musicgen", device="ascend", state="queued") == 0
    assert {name: get_value(metrics, name, device="cpu") for name in ("workers_alive", "workers_busy")} == {
        "workers_alive": 2,
        "workers_busy": 1,
    }
    assert get_value(metrics, "workers_alive", device="gpu") == 0


def test_queue_age_is_the_age_of_the_oldest_queued_job(client: FlaskClient, services: Services) -> None:
    ended, oldest, *_ = submit(services, "gpu", 3)
    transitions.cancel(services.database, ended)
    with services.database.writing() as session:
        for job_id, age_s in ((ended, 7_200), (oldest, 3_600)):
            session.execute(update(Job).where(Job.id == job_id).values(created_at=now(-age_s)))
    metrics = read(client)
    assert 3_600 <= get_value(metrics, "oldest_queued_seconds", kind="knn", device="gpu") < 7_200
    assert get_value(metrics, "oldest_queued_seconds", kind="knn", device="cpu") == 0


def test_queued_job_without_a_chosen_device_is_counted_for_the_device_auto(
    client: FlaskClient, services: Services
) -> None:
    submit(services, "auto")
    assert get_value(read(client), "jobs", kind="knn", device="auto", state="queued") == 1


def test_metrics_do_not_scan_all_jobs(services: Services) -> None:
    """PostgreSQL would scan a table as small as this one, so the function `explain` below makes it prefer an index."""
    executed: list[tuple[str, Any]] = []
    engine = services.database.engine
    event.listen(engine, "before_cursor_execute", lambda *given: executed.append((given[2], given[3])))
    with services.database.reading() as session:
        queries.measure_queue_load(session)
        worker_queries.list_busy_workers(session)
    statements = [(text, bound) for text, bound in executed if "FROM jobs" in text]
    assert len(statements) == 2
    for text, bound in statements:
        plan = explain(services.database, text, bound)
        assert "ix_jobs_" in plan
        assert "SCAN jobs" not in plan
        assert "Seq Scan on jobs" not in plan


def explain(database: Database, text: str, bound: Any) -> str:
    with database.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        rows = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{text}", bound)
        return "\n".join(str(row) for row in rows)


def test_metrics_require_a_key_if_keys_exist(client: FlaskClient, services: Services) -> None:
    key = api_keys.create_key(services.database, "prometheus")
    assert client.get("/metrics").status_code == 401
    read(client, Authorization=f"Bearer {key}")


def test_metrics_return_503_if_the_database_cannot_be_reached(services: Services) -> None:
    settings = services.settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing"})
    app = create_app(settings)
    response = app.test_client().get("/metrics")
    get_context(app).services.close()
    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
