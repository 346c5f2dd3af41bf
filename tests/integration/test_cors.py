"""Pages of other origins that may call the API: with an API key only, and never with a cookie."""

from http import HTTPStatus

import pytest
from flask import Flask

from shared.jobs import Outcome, State
from shared.services import Services
from shared.submission.submit import submit_job
from tests.integration.conftest import MakeApp
from tests.support.auth_headers import make_auth_headers
from tests.support.html_pages import Page
from tests.support.job_outcomes import end, start_job
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ALLOWED = "https://app.example.org"
OTHER = "https://evil.example"
JOB = {"kind": "knn", "device": "cpu"}
CORS = "Access-Control-"


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(cors_origins=f"{ALLOWED}, http://localhost:3000")


def list_cors_headers(headers: object) -> list[str]:
    return [name for name in dict(headers) if name.startswith(CORS)]  # type: ignore[call-overload]  # werkzeug's Headers


@pytest.mark.parametrize("origin", [ALLOWED, "http://localhost:3000"])
def test_page_of_an_allowed_origin_submits_and_reads_a_job_with_a_key(app: Flask, origin: str) -> None:
    client, key = app.test_client(), make_auth_headers(app, "ada")
    headers = key | {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    submitted = client.post("/api/v1/jobs", json=JOB, headers=headers)
    assert submitted.status_code == HTTPStatus.ACCEPTED, submitted.text
    read = client.get(submitted.headers["Location"], headers=headers)
    cancelled = client.post(f"{submitted.headers['Location']}/cancel", headers=headers)
    missing = client.get("/api/v1/nowhere", headers=headers)
    unauthorized = client.get("/api/v1/jobs", headers=headers | {"Authorization": "Bearer mj_wrong"})
    assert [response.status_code for response in (read, cancelled, missing, unauthorized)] == [200, 202, 404, 401]
    for response in (submitted, read, cancelled, missing, unauthorized):
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert "Origin" in response.vary
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "Retry-After", "ETag", "X-Request-ID", "WWW-Authenticate"} <= set(exposed)


def test_page_of_an_allowed_origin_reads_events_and_files(app: Flask) -> None:
    services: Services = get_context(app).services
    client, key = app.test_client(), make_auth_headers(app, "ada")
    job_id = client.post("/api/v1/jobs", json=JOB, headers=key).json["id"]  # type: ignore[index]  # JSON
    end(services, start_job(services, job_id), Outcome(State.SUCCEEDED, {}), {"a.txt": ("text/plain", b"0123456789")})
    headers = key | {"Origin": ALLOWED}
    events = client.get(f"/api/v1/jobs/{job_id}/events", headers=headers | {"Last-Event-ID": "0"}, buffered=True)
    assert "event: state" in events.text
    part = client.get(f"/api/v1/jobs/{job_id}/artifacts/a.txt", headers=headers | {"Range": "bytes=2-4"}, buffered=True)
    assert (part.status_code, part.data) == (HTTPStatus.PARTIAL_CONTENT, b"234")
    for response in (events, part):
        assert response.headers["Access-Control-Allow-Origin"] == ALLOWED


@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
def test_preflight_request_of_an_allowed_origin_is_answered_without_a_key(
    app: Flask, method: str, with_keys: bool
) -> None:
    if with_keys:
        make_auth_headers(app, "ada")
    asked = "authorization,content-type,idempotency-key,if-match,if-none-match,last-event-id,prefer,range,x-request-id"
    question = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
    for path in ("/api/v1/jobs", "/api/v1/uploads", "/api/v1/jobs/01a2070d-0000-7000-8000-000000000000/cancel"):
        answer = app.test_client().options(path, headers=question | {"Origin": ALLOWED})
        assert answer.status_code == HTTPStatus.NO_CONTENT, answer.text
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert set(asked.split(",")) <= set(answer.headers["Access-Control-Allow-Headers"].lower().split(", "))
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.vary


@pytest.mark.parametrize(
    "origin",
    [OTHER, "null", f"{ALLOWED}.evil.example", "http://app.example.org", f"{ALLOWED}:8443", "http://localhost"],
)
def test_page_of_another_origin_gets_no_permission(app: Flask, origin: str) -> None:
    client, key = app.test_client(), make_auth_headers(app, "ada")
    question = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    responses = [
        client.options("/api/v1/jobs", headers=question | {"Origin": origin}),
        client.get("/api/v1/jobs", headers=key | {"Origin": origin}),
    ]
    if origin != "http://localhost":  # werkzeug's test client sends its requests to this origin
        responses.append(client.post("/api/v1/jobs", json=JOB, headers=key | {"Origin": origin}))
        assert responses[-1].status_code == HTTPStatus.FORBIDDEN
    for response in responses:
        assert list_cors_headers(response.headers) == []
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Origin" in response.vary  # so that no cache gives this response to an allowed page


def test_only_the_api_is_open_to_other_origins(app: Flask) -> None:
    client = app.test_client()
    for path in ("/", "/jobs", "/knn", "/healthz", "/metrics", "/static/job.js", "/api", "/sign-in"):
        assert list_cors_headers(client.get(path, headers={"Origin": ALLOWED}, buffered=True).headers) == [], path
    for path in ("/knn", "/sign-in", "/sign-out"):
        assert client.post(path, headers={"Origin": ALLOWED}).status_code == HTTPStatus.FORBIDDEN, path


def test_no_origin_is_allowed_by_default(make_app: MakeApp) -> None:
    app = make_app()
    key = make_auth_headers(app, "ada")
    response = app.test_client().get("/api/v1/jobs", headers=key | {"Origin": ALLOWED})
    assert list_cors_headers(response.headers) == []
    question = {"Origin": ALLOWED, "Access-Control-Request-Method": "GET"}
    assert list_cors_headers(app.test_client().options("/api/v1/jobs", headers=question).headers) == []


@pytest.mark.parametrize("origin", [ALLOWED, OTHER])
def test_cookie_gives_pages_of_other_origins_nothing(app: Flask, origin: str) -> None:
    key = make_auth_headers(app, "ada")
    client = app.test_client()
    form = Page(client.get("/sign-in").text).find_form(None)
    client.post("/sign-in", data=form.fields | {"key": key["Authorization"].removeprefix("Bearer ")})
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    refused = client.get("/api/v1/jobs", headers={"Origin": origin, "Sec-Fetch-Site": "same-site"})
    assert refused.status_code == HTTPStatus.UNAUTHORIZED
    assert client.post("/api/v1/jobs", json=JOB, headers={"Origin": origin}).status_code in {401, 403}
    assert client.get("/api/v1/jobs", headers={"Origin": "http://localhost"}).status_code == HTTPStatus.OK


@pytest.mark.parametrize("origin", [ALLOWED, OTHER])
def test_pages_of_other_origins_need_a_key_even_on_loopback_without_keys(app: Flask, origin: str) -> None:
    client = app.test_client()
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    refused = client.get("/api/v1/jobs", headers={"Origin": origin})
    assert refused.status_code == HTTPStatus.UNAUTHORIZED
    assert "Pages of other sites" in refused.text
    assert client.post("/api/v1/jobs", data="{}", headers={"Origin": origin}).status_code in {401, 403}
    services: Services = get_context(app).services
    job_id = submit_job(services, JOB)[0].id
    assert client.get(f"/api/v1/jobs/{job_id}", headers={"Origin": origin}).status_code == HTTPStatus.UNAUTHORIZED
