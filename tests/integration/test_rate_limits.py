"""The limits of an API key: requests, queued jobs and uploaded bytes. A key at a limit does not affect other keys."""

import io
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.services import Services
from tests.integration.conftest import MakeApp
from tests.support.auth_headers import Headers, make_auth_headers
from tests.support.disks import list_keys
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import start_job
from tests.support.servers import RedisServer
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

JOB = {"kind": "knn", "device": "cpu"}
TABLE = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"
Serve = MakeApp


@pytest.fixture
def serve(make_app: MakeApp) -> Serve:
    """Return a function that makes a web application with the given limits."""
    return make_app


def list_statuses(client: FlaskClient, address: str, count: int, **headers: str) -> list[int]:
    return [client.get(address, headers=headers, buffered=True).status_code for _ in range(count)]


def check_refusal(response: TestResponse, words: str) -> None:
    assert response.status_code == HTTPStatus.TOO_MANY_REQUESTS, response.text
    assert response.content_type == "application/problem+json"
    body: Any = response.json
    assert body["status"] == HTTPStatus.TOO_MANY_REQUESTS
    assert words in body["detail"]


def test_key_has_a_limit_of_requests_per_minute(serve: Serve) -> None:
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


def test_requests_for_health_and_static_files_are_not_counted(serve: Serve) -> None:
    app = serve(requests_per_minute=2)
    client, ada = app.test_client(), make_auth_headers(app, "ada")
    for address in ("/healthz", "/readyz", "/static/style.css"):
        assert list_statuses(client, address, 4, **ada) == [HTTPStatus.OK] * 4, address
    assert list_statuses(client, "/api/v1/devices", 3, **ada) == [200, 200, 429]


def test_requests_without_keys_are_not_limited(serve: Serve) -> None:
    assert list_statuses(serve(requests_per_minute=2).test_client(), "/api/v1/devices", 5) == [HTTPStatus.OK] * 5


def try_key(client: FlaskClient, key: str, address: str) -> TestResponse:
    environ = {"REMOTE_ADDR": address}
    form = Page(client.get("/sign-in", environ_overrides=environ).text).find_form(None)
    return client.post("/sign-in", data=form.fields | {"key": key}, environ_overrides=environ)


def send_key(client: FlaskClient, key: str, address: str, path: str = "/api/v1/devices") -> TestResponse:
    headers = {"Authorization": f"Bearer {key}"}
    return client.get(path, headers=headers, environ_overrides={"REMOTE_ADDR": address})


def get_key(headers: Headers) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


def check_wrong_keys_are_refused(response: TestResponse) -> None:
    check_refusal(response, "The limit is 10 per 1 minute. Check the key; a valid key is accepted at once.")
    assert response.json is not None
    assert response.json["type"] == "too-many-wrong-keys"
    assert 1 <= int(response.headers["Retry-After"]) <= 60


@pytest.mark.parametrize("send", [send_key, try_key])
def test_wrong_keys_from_an_address_have_a_limit_and_a_valid_key_passes(
    serve: Serve, send: Callable[[FlaskClient, str, str], TestResponse]
) -> None:
    app = serve()
    key = get_key(make_auth_headers(app, "ada"))
    attempts = [send(app.test_client(), f"mj_{number}", "192.0.2.1").status_code for number in range(10)]
    assert attempts == [HTTPStatus.UNAUTHORIZED] * 10
    for _ in range(3):
        check_wrong_keys_are_refused(send(app.test_client(), "mj_x", "192.0.2.1"))
        assert send(app.test_client(), key, "192.0.2.1").status_code in {HTTPStatus.OK, HTTPStatus.SEE_OTHER}
    assert send(app.test_client(), "mj_x", "192.0.2.2").status_code == HTTPStatus.UNAUTHORIZED


def test_same_wrong_key_from_many_addresses_has_a_limit(serve: Serve) -> None:
    app = serve()
    make_auth_headers(app, "ada")
    client = app.test_client()
    attempts = [send_key(client, "mj_x", f"192.0.2.{number}").status_code for number in range(10)]
    assert attempts == [HTTPStatus.UNAUTHORIZED] * 10
    check_wrong_keys_are_refused(send_key(client, "mj_x", "192.0.2.10"))
    assert send_key(client, "mj_y", "192.0.2.11").status_code == HTTPStatus.UNAUTHORIZED


def test_wrong_keys_are_counted_at_every_address_of_the_service_and_for_all_processes_together(serve: Serve) -> None:
    first, second = serve(), serve()
    make_auth_headers(first, "ada")
    paths = ["/api/v1/devices", "/api/v1/nowhere", "/metrics", "/nowhere", "/api/v1/openapi.json"]
    attempts = [
        send_key(app.test_client(), f"mj_{path}", "192.0.2.1", path) for path in paths for app in (first, second)
    ]
    assert [attempt.status_code for attempt in attempts] == [HTTPStatus.UNAUTHORIZED] * 10
    for path in [*paths, "/jobs"]:
        check_wrong_keys_are_refused(send_key(second.test_client(), "mj_x", "192.0.2.1", path))
    check_wrong_keys_are_refused(try_key(first.test_client(), "mj_x", "192.0.2.1"))


def test_wrong_keys_are_logged_until_the_limit_and_never_shown(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    app = serve()
    make_auth_headers(app, "ada")
    capsys.readouterr()
    for number in range(15):
        send_key(app.test_client(), f"mj_secret_{number}", "192.0.2.1")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert all("a wrong API key was sent from 192.0.2.1; its SHA-256 begins with" in line for line in lines)
    assert not any("mj_secret" in line for line in lines)


def test_wrong_keys_have_a_limit_without_redis(serve: Serve, redis_server: RedisServer) -> None:
    app = serve()
    ada = make_auth_headers(app, "ada")
    redis_server.stop()
    try:
        attempts = [send_key(app.test_client(), f"mj_{number}", "192.0.2.1").status_code for number in range(10)]
        assert attempts == [HTTPStatus.UNAUTHORIZED] * 10
        check_wrong_keys_are_refused(send_key(app.test_client(), "mj_x", "192.0.2.1"))
        assert send_key(app.test_client(), get_key(ada), "192.0.2.1").status_code == HTTPStatus.OK
    finally:
        redis_server.start()


def test_valid_key_has_a_limit_of_sign_ins(serve: Serve) -> None:
    app = serve()
    ada, bob = (get_key(make_auth_headers(app, name)) for name in ("ada", "bob"))
    attempts = [try_key(app.test_client(), ada, f"192.0.2.{number}").status_code for number in range(10)]
    assert attempts == [HTTPStatus.SEE_OTHER] * 10
    refused = try_key(app.test_client(), ada, "192.0.2.10")
    check_refusal(refused, "10 per 1 minute")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert try_key(app.test_client(), bob, "192.0.2.10").status_code == HTTPStatus.SEE_OTHER


def test_key_has_a_limit_of_queued_jobs(serve: Serve) -> None:
    app = serve(max_queued_jobs=2)
    services: Services = get_context(app).services
    client, ada, bob = app.test_client(), make_auth_headers(app, "ada"), make_auth_headers(app, "bob")

    def submit(headers: Headers) -> TestResponse:
        return client.post("/api/v1/jobs", json=JOB, headers=headers)

    first, second = submit(ada), submit(ada)
    assert [first.status_code, second.status_code] == [HTTPStatus.ACCEPTED] * 2
    check_refusal(submit(ada), "This API key has reached the maximum number of queued jobs, 2.")
    assert submit(bob).status_code == HTTPStatus.ACCEPTED

    assert first.json is not None
    assert start_job(services).job_id == first.json["id"]
    assert submit(ada).status_code == HTTPStatus.ACCEPTED
    check_refusal(submit(ada), "maximum number of queued jobs")

    cancelled = client.post(f"{second.headers['Location']}/cancel", headers=ada)
    assert cancelled.status_code == HTTPStatus.ACCEPTED
    retried = client.post(f"{second.headers['Location']}/retry", headers=ada)
    assert retried.status_code == HTTPStatus.ACCEPTED
    check_refusal(client.post(f"{second.headers['Location']}/retry", headers=ada), "maximum number of queued jobs")


def test_form_shows_that_the_limit_of_queued_jobs_is_reached(serve: Serve) -> None:
    app = serve(max_queued_jobs=1)
    client, ada = app.test_client(), make_auth_headers(app, "ada")
    form = Page(client.get("/sign-in").text).find_form(None)
    client.post("/sign-in", data=form.fields | {"key": ada["Authorization"].removeprefix("Bearer ")})
    assert send_form(client, "/knn").status_code == HTTPStatus.SEE_OTHER
    refused = send_form(client, "/knn")
    assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert refused.mimetype == "text/html"
    assert "This API key has reached the maximum number of queued jobs, 1." in refused.text


def test_repeated_request_returns_the_same_job_when_the_limit_is_reached(serve: Serve) -> None:
    app = serve(max_queued_jobs=1)
    client, headers = app.test_client(), make_auth_headers(app, "ada") | {"Idempotency-Key": "once"}
    statuses = [client.post("/api/v1/jobs", json=JOB, headers=headers).status_code for _ in range(2)]
    assert statuses == [HTTPStatus.ACCEPTED, HTTPStatus.OK]


def test_key_has_a_limit_of_uploaded_bytes(serve: Serve) -> None:
    app = serve(max_uploaded_bytes=len(TABLE) + 10)
    services: Services = get_context(app).services
    client, ada, bob = app.test_client(), make_auth_headers(app, "ada"), make_auth_headers(app, "bob")

    def upload(content: bytes, headers: Headers) -> TestResponse:
        return client.post("/api/v1/uploads", data=content, headers=headers)

    assert upload(TABLE, ada).status_code == HTTPStatus.CREATED
    over = upload(b"x" * 11, ada)
    assert over.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert "10 bytes" in over.text
    assert upload(b"x" * 10, ada).status_code == HTTPStatus.CREATED
    check_refusal(upload(b"x", ada), f"use all of its {len(TABLE) + 10} bytes")
    assert upload(TABLE, bob).status_code == HTTPStatus.CREATED
    assert len(list_keys(services.files, "uploads")) == 3


def test_requests_are_answered_and_limited_without_redis(serve: Serve, redis_server: RedisServer) -> None:
    app = serve(requests_per_minute=3)
    client, ada = app.test_client(), make_auth_headers(app, "ada")
    assert client.get("/api/v1/devices", headers=ada).status_code == HTTPStatus.OK
    redis_server.stop()
    try:
        # Without Redis, this process counts its own requests, and still limits them.
        assert list_statuses(client, "/api/v1/devices", 5, **ada)[:2] == [HTTPStatus.OK] * 2
        assert client.get("/api/v1/devices", headers=ada).status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert (
            client.post("/api/v1/jobs", json=JOB, headers=make_auth_headers(app, "bob")).status_code
            == HTTPStatus.ACCEPTED
        )
    finally:
        redis_server.start()


def test_form_with_a_file_may_be_as_large_as_an_upload(serve: Serve) -> None:
    client = serve(max_body_bytes=2**17).test_client()
    table = TABLE + b"x,1,2\n" * 2**15
    response = send_form(client, "/knn", file=(io.BytesIO(table), "a.csv"), preview="1")
    assert response.status_code == HTTPStatus.OK, response.text
    assert "a.csv" in response.text
