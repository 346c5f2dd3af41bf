"""How much a key may ask for, send and have waiting; and what others notice of it: nothing."""

import io
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.services import Services
from shared.settings import Settings
from tests.support.auth_headers import Headers, make_auth_headers
from tests.support.disks import list_keys
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import start_job
from tests.support.openapi_watch import watch_responses
from tests.support.servers import RedisServer
from web import create_app
from web.context import get_context

# Nothing here depends on the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

JOB = {"kind": "knn", "device": "cpu"}
TABLE = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"
Serve = Callable[..., Flask]


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Make applications with limits of their own."""
    made: list[tuple[Flask, list[str]]] = []

    def make(**limits: object) -> Flask:
        app = create_app(settings.model_copy(update=limits))
        made.append((app, watch_responses(app)))
        return app

    yield make
    for app, strange in made:
        get_context(app).services.close()
        assert strange == []


def list_statuses(client: FlaskClient, address: str, count: int, **headers: str) -> list[int]:
    return [client.get(address, headers=headers, buffered=True).status_code for _ in range(count)]


def check_refusal(answer: TestResponse, words: str) -> None:
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS, answer.text
    assert answer.content_type == "application/problem+json"
    body: Any = answer.json
    assert body["status"] == HTTPStatus.TOO_MANY_REQUESTS
    assert words in body["detail"]


def test_a_key_has_so_many_requests_a_minute(serve: Serve) -> None:
    app = serve(requests_per_minute=3)
    client, ada, bob = app.test_client(), make_auth_headers(app, "ada"), make_auth_headers(app, "bob")
    assert list_statuses(client, "/api/v1/devices", 3, **ada) == [HTTPStatus.OK] * 3
    for address in ("/api/v1/devices", "/api/v1/jobs", "/metrics", "/jobs"):
        refused = client.get(address, headers=ada)
        check_refusal(refused, "3 per 1 minute")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert client.post("/api/v1/jobs", json=JOB, headers=ada).status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert list_statuses(client, "/api/v1/devices", 3, **bob) == [HTTPStatus.OK] * 3


def test_requests_are_counted_for_all_processes_together(serve: Serve) -> None:
    first, second = serve(requests_per_minute=2), serve(requests_per_minute=2)
    ada = make_auth_headers(first, "ada")
    statuses = [app.test_client().get("/api/v1/devices", headers=ada).status_code for app in (first, second, first)]
    assert statuses == [HTTPStatus.OK, HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS]


def test_health_is_not_counted(serve: Serve) -> None:
    app = serve(requests_per_minute=2)
    client, ada = app.test_client(), make_auth_headers(app, "ada")
    for address in ("/healthz", "/readyz", "/static/style.css"):
        assert list_statuses(client, address, 4, **ada) == [HTTPStatus.OK] * 4, address
    assert list_statuses(client, "/api/v1/devices", 3, **ada) == [200, 200, 429]


def test_where_there_are_no_keys_nothing_is_counted(serve: Serve) -> None:
    assert list_statuses(serve(requests_per_minute=2).test_client(), "/api/v1/devices", 5) == [HTTPStatus.OK] * 5


def try_key(client: FlaskClient, key: str, address: str) -> TestResponse:
    there = {"REMOTE_ADDR": address}
    form = Page(client.get("/sign-in", environ_overrides=there).text).find_form(None)
    return client.post("/sign-in", data=form.fields | {"key": key}, environ_overrides=there)


def test_an_address_may_try_so_many_keys(serve: Serve) -> None:
    app = serve()
    key = make_auth_headers(app, "ada")["Authorization"].removeprefix("Bearer ")
    tries = [try_key(app.test_client(), f"mj_{number}", "192.0.2.1").status_code for number in range(10)]
    assert tries == [HTTPStatus.UNAUTHORIZED] * 10
    refused = try_key(app.test_client(), key, "192.0.2.1")
    assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert try_key(app.test_client(), key, "192.0.2.2").status_code == HTTPStatus.SEE_OTHER


def test_so_many_jobs_of_a_key_may_wait(serve: Serve) -> None:
    app = serve(max_queued_jobs=2)
    services: Services = get_context(app).services
    client, ada, bob = app.test_client(), make_auth_headers(app, "ada"), make_auth_headers(app, "bob")

    def submit(bearer: Headers) -> TestResponse:
        return client.post("/api/v1/jobs", json=JOB, headers=bearer)

    first, second = submit(ada), submit(ada)
    assert [first.status_code, second.status_code] == [HTTPStatus.ACCEPTED] * 2
    check_refusal(submit(ada), "As many jobs of this key wait as may, 2;")
    assert submit(bob).status_code == HTTPStatus.ACCEPTED

    assert first.json is not None
    assert start_job(services).job_id == first.json["id"]
    assert submit(ada).status_code == HTTPStatus.ACCEPTED
    check_refusal(submit(ada), "As many jobs")

    cancelled = client.post(f"{second.headers['Location']}/cancel", headers=ada)
    assert cancelled.status_code == HTTPStatus.ACCEPTED
    retried = client.post(f"{second.headers['Location']}/retry", headers=ada)
    assert retried.status_code == HTTPStatus.ACCEPTED
    check_refusal(client.post(f"{second.headers['Location']}/retry", headers=ada), "As many jobs")


def test_the_form_says_that_too_many_jobs_wait(serve: Serve) -> None:
    app = serve(max_queued_jobs=1)
    client, ada = app.test_client(), make_auth_headers(app, "ada")
    form = Page(client.get("/sign-in").text).find_form(None)
    client.post("/sign-in", data=form.fields | {"key": ada["Authorization"].removeprefix("Bearer ")})
    assert send_form(client, "/knn").status_code == HTTPStatus.SEE_OTHER
    refused = send_form(client, "/knn")
    assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert refused.mimetype == "text/html"
    assert "As many jobs of this key wait as may, 1;" in refused.text


def test_a_repeated_request_is_known_however_many_wait(serve: Serve) -> None:
    app = serve(max_queued_jobs=1)
    client, headers = app.test_client(), make_auth_headers(app, "ada") | {"Idempotency-Key": "once"}
    statuses = [client.post("/api/v1/jobs", json=JOB, headers=headers).status_code for _ in range(2)]
    assert statuses == [HTTPStatus.ACCEPTED, HTTPStatus.OK]


def test_the_uploads_of_a_key_take_so_many_bytes(serve: Serve) -> None:
    app = serve(max_uploaded_bytes=len(TABLE) + 10)
    services: Services = get_context(app).services
    client, ada, bob = app.test_client(), make_auth_headers(app, "ada"), make_auth_headers(app, "bob")

    def upload(content: bytes, bearer: Headers) -> TestResponse:
        return client.post("/api/v1/uploads", data=content, headers=bearer)

    assert upload(TABLE, ada).status_code == HTTPStatus.CREATED
    over = upload(b"x" * 11, ada)
    assert over.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert "10 bytes" in over.text
    assert upload(b"x" * 10, ada).status_code == HTTPStatus.CREATED
    check_refusal(upload(b"x", ada), f"take the {len(TABLE) + 10} bytes that they may")
    assert upload(TABLE, bob).status_code == HTTPStatus.CREATED
    assert len(list_keys(services.files, "uploads")) == 3


def test_requests_are_answered_while_redis_is_away(serve: Serve, redis_server: RedisServer) -> None:
    app = serve(requests_per_minute=3)
    client, ada = app.test_client(), make_auth_headers(app, "ada")
    assert client.get("/api/v1/devices", headers=ada).status_code == HTTPStatus.OK
    redis_server.stop()
    try:
        # Counted in this process alone, and limited all the same.
        assert list_statuses(client, "/api/v1/devices", 5, **ada)[:2] == [HTTPStatus.OK] * 2
        assert client.get("/api/v1/devices", headers=ada).status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert (
            client.post("/api/v1/jobs", json=JOB, headers=make_auth_headers(app, "bob")).status_code
            == HTTPStatus.ACCEPTED
        )
    finally:
        redis_server.start()


def test_a_form_with_a_file_may_be_as_large_as_an_upload(serve: Serve) -> None:
    client = serve(max_body_bytes=2**17).test_client()
    table = TABLE + b"x,1,2\n" * 2**15
    answer = send_form(client, "/knn", file=(io.BytesIO(table), "a.csv"), look="look")
    assert answer.status_code == HTTPStatus.OK, answer.text
    assert "a.csv" in answer.text
