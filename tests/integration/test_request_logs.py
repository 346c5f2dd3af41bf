"""A worker logs the id of the request that submitted a job, and every log line of every process is JSON."""

import io
import json
import logging
import signal
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.database import queries
from shared.database.tables import Job
from shared.ids import is_id
from shared.logs import make_formatter
from shared.services import Services
from shared.settings import Settings
from tests.integration.conftest import ServeWeb
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FIELDS = {"time", "level", "logger", "message", "process"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"log_format": "json", "web_processes": 1})


def read_lines(process: ServiceProcess) -> list[dict[str, Any]]:
    complete = process.read_log().rpartition("\n")[0]  # the last line may be incomplete
    lines: list[dict[str, Any]] = [json.loads(line) for line in complete.splitlines()]
    assert [line for line in lines if not line.keys() >= FIELDS] == []
    return lines


def submit(client: FlaskClient, gate: Path, then: str, **headers: str) -> Job:
    prompt = json.dumps({"gate": str(gate), "then": then})
    body = {"kind": "musicgen", "device": "cpu", "params": {"prompts": [prompt]}, "max_attempts": 1}
    response = client.post("/api/v1/jobs", json=body, headers=headers)
    assert response.status_code == HTTPStatus.ACCEPTED, response.text
    assert response.json is not None
    services: Services = get_context(client.application).services
    with services.database.reading() as session:
        job = queries.get_job(session, response.json["id"])
    assert job.request_id == response.headers["X-Request-ID"]
    return job


def test_worker_logs_the_id_of_the_request_that_submitted_the_job(
    client: FlaskClient, start_worker: Callable[[], ServiceProcess], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    worker = start_worker()
    jobs = [submit(client, gate, "succeed", X_Request_ID="client-request.1"), submit(client, gate, "crash")]
    assert jobs[0].request_id == "client-request.1"
    assert jobs[1].request_id is not None
    assert is_id(jobs[1].request_id)

    wait_until(lambda: "has failed" in worker.read_log(), "the second job to fail")
    lines = read_lines(worker)
    for job in jobs:
        about = [line for line in lines if line.get("job") == job.id]
        assert len(about) > 1
        assert {line.get("request") for line in about} == {job.request_id}
    (crash,) = [line for line in lines if "ZeroDivisionError" in line.get("exc_info", "")]
    assert crash["job"] == jobs[1].id


def test_log_lines_of_gunicorn_are_json(serve_web: ServeWeb) -> None:
    web, _ = serve_web()
    web.signal(signal.SIGTERM)
    web.wait()
    lines = read_lines(web)
    assert [line["message"].split()[0] for line in lines][:2] == ["Starting", "Listening"]
    assert {line["level"] for line in lines} == {"INFO"}


def test_log_line_written_during_a_request_has_the_request_id(app: Flask, settings: Settings) -> None:
    logger, written = logging.getLogger("tests.request"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(make_formatter(settings))
    logger.addHandler(handler)

    @app.get("/log")
    def write_log_line() -> str:
        logger.warning("called")
        return "done"

    names = ["client-request.2", "client-request.3"]
    try:
        for name in names:
            assert app.test_client().get("/log", headers={"X-Request-ID": name}).text == "done"
    finally:
        logger.removeHandler(handler)
    assert [json.loads(line)["request"] for line in written.getvalue().splitlines()] == names
