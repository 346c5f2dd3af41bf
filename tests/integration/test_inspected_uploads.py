"""What the API shows of inspections, and how submissions wait for them without holding threads."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.client import Client
from shared.database import inspections
from shared.files.keys import upload_key
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.integration.conftest import ServeWeb
from tests.support.audio_zoo import make_silence
from tests.support.auth_headers import make_auth_headers
from tests.support.html_pages import find_message, send_form
from tests.support.inspections import run_inspections
from tests.support.instances import ask
from tests.support.openapi_watch import watch_responses
from tests.support.waiting import DEADLINE_S, wait_until
from web import create_app
from web import inspections as web_inspections
from web.context import get_context

TABLE: Final = b"k,a\nx,1\ny,5\n"
UPLOADS: Final = "/api/v1/uploads"
LARGE_BYTES: Final = 2**17
"""The size of a body that the web receives only after it has judged the head."""


@pytest.fixture
def client(settings: Settings) -> Iterator[FlaskClient]:
    """A client of the web alone: nothing is inspected."""
    app = create_app(settings)
    undescribed = watch_responses(app)
    yield app.test_client()
    get_context(app).services.close()
    assert undescribed == []


@pytest.fixture
def impatient(patient_submissions: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - that fixture first
    """Let submissions wait for a short time only."""
    monkeypatch.setattr(web_inspections, "SUBMISSION_WAIT_S", 0.1)


def read(response: TestResponse, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert isinstance(response.json, dict)
    return response.json


def upload(
    client: FlaskClient, content: bytes = TABLE, name: str = "table.csv", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    data = {"file": (io.BytesIO(content), name)}
    return read(client.post(UPLOADS, data=data, headers=headers or {}), HTTPStatus.CREATED)


def make_body(upload_id: str, **others: object) -> dict[str, Any]:
    params = {"dataset": {"upload": upload_id, "label": "k"}, "k": 1, "evaluation": {"method": "loo"}}
    return {"kind": "knn", "device": "cpu", "params": params} | others


def list_problems(response: TestResponse) -> list[tuple[str, str]]:
    return [(it["pointer"], it["code"]) for it in read(response, HTTPStatus.UNPROCESSABLE_ENTITY)["errors"]]


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (TABLE, "table.csv", "table"),
        (b"PK\x03\x04" + bytes(60), "book", "table"),
        (b"ID3\x04" + bytes(60), "table.csv", "audio"),
        (b"#EXTM3U\n#EXTINF:9\nhttp://example.org/a.mp3\n", "music.mp3", "audio"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "music.mp3", "audio"),
        (bytes(range(256)), "thing", "unknown"),
    ],
)
def test_upload_has_a_kind_and_those_that_jobs_can_read_are_inspected(
    client: FlaskClient, content: bytes, name: str, kind: str
) -> None:
    stored = upload(client, content, name)
    state = None if kind == "unknown" else {"state": "pending", "problem": None}
    assert (stored["kind"], stored["inspection"]) == (kind, state)
    assert read(client.get(f"{UPLOADS}/{stored['id']}")) == stored
    assert read(client.get(UPLOADS))["uploads"] == [stored]


def test_facts_are_shown_with_the_upload_and_the_list_shows_the_state_alone(
    client: FlaskClient, services: Services
) -> None:
    stored = upload(client)
    with run_inspections(services):
        response = client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"})
    assert response.headers["Preference-Applied"] == "wait=60"
    found = read(response)["inspection"]
    assert (found["state"], found["problem"], found["rows"], found["delimiter"]) == ("ready", None, 2, ",")
    assert [column["name"] for column in found["columns"]] == ["k", "a"]
    for excluded in found["suggested"]["exclude"]:
        assert excluded["reason"].keys() == {"code", "detail"}
    for warning in found["warnings"]:
        assert warning.keys() == {"code", "detail"}
    (listed,) = read(client.get(UPLOADS))["uploads"]
    assert listed == stored | {"inspection": {"state": "ready", "problem": None}}


def test_facts_of_audio_are_shown(client: FlaskClient, services: Services) -> None:
    stored = upload(client, make_silence(duration_s=1.5), "silence.m4a")
    assert (stored["kind"], stored["media_type"]) == ("audio", "audio/mp4")
    with run_inspections(services):
        found = read(client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"}))["inspection"]
    warnings = [warning["code"] for warning in found.pop("warnings")]
    assert warnings == ["sound-silent"]
    assert found == {
        "state": "ready",
        "problem": None,
        "duration_s": 1.5,
        "rate": 44_100,
        "channels": 2,
        "format": "mov",
        "codec": "aac",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#EXTM3U\n#EXTINF:9\nhttp://example.org/a.mp3\n", "is a playlist"),
        (b"[playlist]\nFile1=http://example.org/a.mp3\n", "is a playlist"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "is a playlist"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG picture"),
        (b"ID3\x04" + bytes(60), "known format"),
    ],
)
def test_file_that_is_called_as_music_and_is_none_is_unreadable_and_it_is_said_what_it_is(
    client: FlaskClient, services: Services, content: bytes, words: str
) -> None:
    stored = upload(client, content, "music.mp3")
    with run_inspections(services):
        found = read(client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"}))["inspection"]
    assert found["state"] == "unreadable"
    assert words in found["problem"]["detail"]
    assert "WAV, FLAC, MP3 or M4A" in found["problem"]["detail"]


def test_wait_for_an_inspection_ends_when_the_time_is_up(client: FlaskClient) -> None:
    stored = upload(client)
    response = client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=1"})
    assert read(response)["inspection"]["state"] == "pending"


def test_unreadable_upload_shows_why_and_its_submission_is_refused_at_its_field(
    client: FlaskClient, services: Services
) -> None:
    stored = upload(client)
    services.files.remove(upload_key(stored["id"]))
    with run_inspections(services):
        found = read(client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"}))["inspection"]
    assert found["state"] == "unreadable"
    assert found["problem"]["code"] == "upload-file-missing"
    assert "upload it again" in found["problem"]["detail"]
    refused = client.post("/api/v1/jobs", json=make_body(stored["id"]))
    assert list_problems(refused) == [("/params/dataset/upload", "upload-file-missing")]


def test_submission_with_an_upload_that_is_no_table_is_refused(client: FlaskClient) -> None:
    stored = upload(client, b"ID3\x04" + bytes(60), "music.mp3")
    refused = client.post("/api/v1/jobs", json=make_body(stored["id"]))
    assert list_problems(refused) == [("/params/dataset/upload", "upload-not-table")]


@pytest.mark.usefixtures("impatient")
def test_submission_with_a_pending_upload_is_asked_to_come_back_and_makes_its_inspection_the_next(
    client: FlaskClient, services: Services
) -> None:
    named, *_ = (upload(client) for _ in range(3))
    response = client.post("/api/v1/jobs", json=make_body(named["id"]))
    problem = read(response, HTTPStatus.SERVICE_UNAVAILABLE)
    assert (problem["type"], response.headers["Retry-After"]) == ("upload-pending", "2")
    assert named["id"] in problem["detail"]
    claimed = inspections.claim(services.database, "", ["table"], 60.0)
    assert claimed is not None
    assert claimed.id == named["id"]


@pytest.mark.usefixtures("impatient")
def test_retry_waits_for_the_inspection_of_an_upload_of_an_earlier_version(
    client: FlaskClient, services: Services
) -> None:
    stored = upload(client)
    with run_inspections(services):
        client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"})
    job_id = submit_job(services, make_body(stored["id"]))[0].id
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    with services.database.writing() as session:
        session.connection().exec_driver_sql("UPDATE uploads SET inspection_state = 'pending', facts = NULL")
    retry = f"/api/v1/jobs/{job_id}/retry"
    assert read(client.post(retry), HTTPStatus.SERVICE_UNAVAILABLE)["type"] == "upload-pending"
    with run_inspections(services):
        client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"})
    read(client.post(retry), HTTPStatus.ACCEPTED)


@pytest.mark.usefixtures("impatient")
def test_form_waits_for_the_inspection_of_its_file_and_keeps_the_file(client: FlaskClient, services: Services) -> None:
    fields = {"label": "k", "k": "1", "method": "loo"}
    response = send_form(client, "/knn", file=(io.BytesIO(TABLE), "table.csv"), **fields)
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "still being inspected" in response.text
    (stored,) = read(client.get(UPLOADS))["uploads"]
    with run_inspections(services):
        client.get(f"{UPLOADS}/{stored['id']}", headers={"Prefer": "wait=60"})
    response = send_form(client, "/knn", upload=stored["id"], **fields)
    assert response.status_code == HTTPStatus.SEE_OTHER, find_message(response.text, "file")


def test_submission_that_reads_the_file_in_another_way_inspects_it_again(
    client: FlaskClient, services: Services
) -> None:
    stored = upload(client, b"1,2\n3,4\n5,6\n7,8\n")
    body = make_body(stored["id"])
    dataset = body["params"]["dataset"]
    dataset["label"] = 0
    with run_inspections(services):
        for header in (True, False, "auto"):
            dataset["header"] = header
            job = read(client.post("/api/v1/jobs", json=body), HTTPStatus.ACCEPTED)
            found = read(client.get(f"{UPLOADS}/{stored['id']}"))["inspection"]
            assert (job["params"]["dataset"]["header"], found["header"]) == (header is True, header is True)
            assert found["rows"] == (3 if header is True else 4)
        dataset |= {"header": "auto", "delimiter": ";"}
        assert list_problems(client.post("/api/v1/jobs", json=body)) == [
            ("/params/dataset/upload", "delimiter-useless")
        ]
        dataset["delimiter"] = "auto"
        read(client.post("/api/v1/jobs", json=body), HTTPStatus.ACCEPTED)


def submit(settings: Settings, body: str, **headers: str) -> tuple[int, dict[str, Any], str | None]:
    """Submit a job to a served web; return the status, the JSON, and ``Retry-After`` of the response."""
    with closing(HTTPConnection("127.0.0.1", settings.port, timeout=DEADLINE_S)) as connection:
        connection.request("POST", "/api/v1/jobs", body, headers)
        response = connection.getresponse()
        return response.status, json.load(response), response.getheader("Retry-After")


def is_requested(services: Services, upload_id: str) -> bool:
    with services.database.reading() as session:
        return inspections.find_with_facts(session, [upload_id], "")[upload_id].inspection_requested_at is not None


@pytest.mark.parametrize("padding", ["", " " * LARGE_BYTES])
def test_submissions_that_wait_for_an_inspection_hold_no_threads(
    serve_web: ServeWeb, services: Services, client: FlaskClient, padding: str
) -> None:
    stored = upload(client)
    _, settings = serve_web(web_processes=1, web_threads=2)
    body = json.dumps(make_body(stored["id"])) + padding
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(submit, settings, body) for _ in range(16)]
        wait_until(lambda: is_requested(services, stored["id"]), "a submission that waits")
        for _ in range(4):
            assert ask(settings.port, "/healthz") == HTTPStatus.OK
        with run_inspections(services):
            assert {it.result()[0] for it in waiting} <= {HTTPStatus.ACCEPTED, HTTPStatus.SERVICE_UNAVAILABLE}
    assert submit(settings, body)[0] == HTTPStatus.ACCEPTED


def test_submission_that_waits_counts_once_for_the_limit_of_requests(
    serve_web: ServeWeb, services: Services, client: FlaskClient
) -> None:
    headers = make_auth_headers(client.application, "ada")
    stored = upload(client, headers=headers)
    _, settings = serve_web(web_processes=1, web_threads=2, requests_per_minute=2)
    body = json.dumps(make_body(stored["id"]))
    status, problem, retry_after = submit(settings, body, **headers)
    assert (status, problem["type"], retry_after) == (HTTPStatus.SERVICE_UNAVAILABLE, "upload-pending", "2")
    with run_inspections(services):
        wait_until(lambda: not find_pending(services, stored["id"]), "the inspection")
    assert submit(settings, body, **headers)[0] == HTTPStatus.ACCEPTED
    assert submit(settings, body, **headers)[0] == HTTPStatus.TOO_MANY_REQUESTS


def find_pending(services: Services, upload_id: str) -> set[str]:
    with services.database.reading() as session:
        return inspections.find_pending(session, [upload_id])


def test_client_waits_for_an_inspection(serve_web: ServeWeb, services: Services, client: FlaskClient) -> None:
    stored = upload(client)
    _, settings = serve_web()
    with Client(f"http://127.0.0.1:{settings.port}", None) as python_client:
        assert python_client.get_upload(stored["id"]).pending
        with run_inspections(services):
            found = python_client.wait_for_upload(stored["id"])
    assert found.inspection is not None
    assert (found.kind, found.inspection.state, found.inspection.problem) == ("table", "ready", None)
