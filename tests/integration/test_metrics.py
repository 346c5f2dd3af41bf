"""Prometheus' figures, on both databases."""

from typing import Any

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, update

from shared import api_keys
from shared.database import queries, transitions
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
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/plain"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def look(figures: dict[tuple[str, Labels], float], name: str, **labels: str) -> float:
    return figures[f"mindjobs_{name}", frozenset(labels.items())]


def submit(services: Services, device: str, count: int = 1) -> list[str]:
    return [submit_job(services, {"kind": "knn", "device": device})[0].id for _ in range(count)]


def test_what_waits_and_runs_is_counted_and_what_has_ended_is_not(client: FlaskClient, services: Services) -> None:
    register_worker(services, "busy", DeviceClass.CPU)
    register_worker(services, "idle", DeviceClass.CPU)
    register_worker(services, "gone", DeviceClass.GPU)
    with services.database.writing() as session:
        session.execute(update(Worker).where(Worker.name == "gone").values(beat_at=now(-3_600)))
    submit(services, "cpu", 4)
    transitions.finish(services.database, start_job(services, worker="idle"), CANCELLED)
    start_job(services, worker="busy")
    figures = read(client)
    assert look(figures, "jobs", kind="knn", device="cpu", state="queued") == 2
    assert look(figures, "jobs", kind="knn", device="cpu", state="running") == 1
    assert look(figures, "jobs", kind="musicgen", device="ascend", state="queued") == 0
    assert {name: look(figures, name, device="cpu") for name in ("workers_alive", "workers_busy")} == {
        "workers_alive": 2,
        "workers_busy": 1,
    }
    assert look(figures, "workers_alive", device="gpu") == 0


def test_the_age_is_the_oldest_one_s_that_waits(client: FlaskClient, services: Services) -> None:
    ended, oldest, *_ = submit(services, "gpu", 3)
    transitions.cancel(services.database, ended)
    with services.database.writing() as session:
        for job_id, age_s in ((ended, 7_200), (oldest, 3_600)):
            session.execute(update(Job).where(Job.id == job_id).values(created_at=now(-age_s)))
    figures = read(client)
    assert 3_600 <= look(figures, "oldest_queued_seconds", kind="knn", device="gpu") < 7_200
    assert look(figures, "oldest_queued_seconds", kind="knn", device="cpu") == 0


def test_a_job_for_which_no_device_is_chosen_is_counted_too(client: FlaskClient, services: Services) -> None:
    submit(services, "auto")
    assert look(read(client), "jobs", kind="knn", device="auto", state="queued") == 1


def test_no_figure_costs_a_look_at_every_job(services: Services) -> None:
    """With the planner told to avoid it where it can: in a table this small, it would not by itself."""
    asked: list[tuple[str, Any]] = []
    engine = services.database.engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    with services.database.reading() as session:
        queries.measure_queue_load(session)
        queries.list_busy_workers(session)
    statements = [(text, bound) for text, bound in asked if "FROM jobs" in text]
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


def test_figures_need_a_key_where_there_are_keys(client: FlaskClient, services: Services) -> None:
    key = api_keys.create_key(services.database, "prometheus")
    assert client.get("/metrics").status_code == 401
    read(client, Authorization=f"Bearer {key}")


def test_without_the_database_there_are_no_figures(services: Services) -> None:
    settings = services.settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing"})
    app = create_app(settings)
    answer = app.test_client().get("/metrics")
    get_context(app).services.close()
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
