"""Requests that need an API key, and the jobs and files that a request with a key can reach."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from shared.api_keys import create_key
from shared.database.connection import Database
from shared.ids import make_id
from shared.roles import Role
from shared.services import Services
from shared.settings import Settings
from tests.integration.conftest import MakeApp
from tests.support.auth_headers import Headers, expire_key_cache, make_auth_headers, revoke
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import MUSIC, make_sample, succeed
from tests.support.waiting import DEADLINE_S
from web import create_app
from web.auth import require_operator
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OPEN = {"health.alive", "health.ready", "static", "bootstrap.static", "pages.sign_in"}
READING_METHODS = {"GET", "HEAD"}
HTML = {"Accept": "text/html"}
TABLE = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"
FILES = {
    "audio-0.ogg": ("audio/ogg", b"OggS" + bytes(96)),
    "waveform-0.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
}


@dataclass(frozen=True)
class Route:
    """An address of the application with one of its methods."""

    endpoint: str
    method: str
    address: str

    def open(self, client: FlaskClient, **headers: str) -> TestResponse:
        """Send a request with this method to this address."""
        return client.open(self.address, method=self.method, headers=headers, buffered=True)


def list_routes(app: Flask, **given: object) -> list[Route]:
    """List every route of the application; deletions are last, because a deleted job is not found afterwards."""
    values: dict[str, object] = {
        "job_id": make_id(),
        "upload_id": make_id(),
        "name": "audio-0.ogg",
        "number": 0,
        "audio_format": "ogg",
        "kind": "knn",
        "filename": "css/bootstrap.min.css",
    }
    addresses = app.url_map.bind("localhost")
    routes = [
        Route(
            rule.endpoint,
            method,
            addresses.build(rule.endpoint, {name: (values | given)[name] for name in rule.arguments}, method),
        )
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    ]
    return sorted(routes, key=lambda route: (route.method == "DELETE", route.address, route.method))


def is_admitted(response: TestResponse) -> bool:
    return response.status_code != HTTPStatus.UNAUTHORIZED and "/sign-in" not in response.headers.get("Location", "")


def submit(client: FlaskClient, headers: Headers, kind: str = "knn", **others: str) -> str:
    params = {"format": "ogg"} if kind == "musicgen" else {}  # the format of `FILES`
    body = {"kind": kind, "device": "cpu", "params": params}
    response = client.post("/api/v1/jobs", json=body, headers=headers | others)
    assert response.status_code in {200, 202}, response.text
    return read(response)["id"]  # type: ignore[no-any-return]  # the id of a job is a string


def read(response: TestResponse) -> dict[str, Any]:
    assert response.json is not None
    return dict(response.json)


def send_key(client: FlaskClient, auth_headers: Headers, page: str = "/sign-in", **options: Any) -> TestResponse:
    """Send a key with the sign-in form."""
    form = Page(client.get(page, **options).text).find_form(None)
    key = auth_headers["Authorization"].removeprefix("Bearer ")
    response = client.post(page, data=form.fields | {"key": key}, **options)
    assert response.status_code == HTTPStatus.SEE_OTHER, response.text
    return response


def sign_in(app: Flask, headers: Headers) -> FlaskClient:
    """Sign in with a key, and return the client, which has a session from then on, like a browser."""
    client = app.test_client()
    send_key(client, headers)
    return client


def test_every_route_is_open_on_loopback_if_no_key_exists(app: Flask, client: FlaskClient) -> None:
    routes = list_routes(app)
    assert {route.endpoint for route in routes} == app.view_functions.keys()
    refused = [route for route in routes if route.endpoint != "pages.sign_out" and not is_admitted(route.open(client))]
    assert refused == []


def check_keys_are_required(app: Flask) -> None:
    client = app.test_client()
    for route in list_routes(app):
        response = route.open(client)
        if route.endpoint in OPEN:
            assert is_admitted(response), route
        elif route.endpoint.startswith("pages.") and route.method in READING_METHODS:
            assert response.status_code == HTTPStatus.SEE_OTHER, route
            assert response.headers["Location"].startswith("/sign-in?next=/"), route
        else:
            assert response.status_code == HTTPStatus.UNAUTHORIZED, route
            assert response.headers["WWW-Authenticate"] == "Bearer", route
            assert response.content_type == "application/problem+json", route
    assert client.get("/nowhere").status_code == HTTPStatus.UNAUTHORIZED


def test_first_key_makes_every_request_need_a_key(app: Flask, client: FlaskClient, services: Services) -> None:
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    create_key(services.database, "ada")
    expire_key_cache(app)
    check_keys_are_required(app)


def test_keys_are_read_again_when_the_cache_has_expired(
    app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 3600.0)
    client = app.test_client()
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    create_key(services.database, "ada")
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 0.0)
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.UNAUTHORIZED


def test_instance_on_all_addresses_needs_a_key_before_any_key_exists(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}))  # noqa: S104 - no socket is opened
    check_keys_are_required(app)
    get_context(app).services.close()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_authorization_scheme_is_case_insensitive(app: Flask, client: FlaskClient, scheme: str) -> None:
    key = make_auth_headers(app, "ada")["Authorization"].removeprefix("Bearer ")
    assert client.get("/api/v1/jobs", headers={"Authorization": f"{scheme} {key}"}).status_code == HTTPStatus.OK


@pytest.mark.parametrize("given", ["Bearer mj_wrong", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key}x"])
def test_invalid_key_is_refused(app: Flask, client: FlaskClient, given: str) -> None:
    key = make_auth_headers(app, "ada")["Authorization"].removeprefix("Bearer ")
    response = client.get("/api/v1/jobs", headers={"Authorization": given.format(key=key)})
    assert response.status_code == HTTPStatus.UNAUTHORIZED


def test_revoked_key_is_refused(app: Flask, client: FlaskClient) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    revoke(app, "ada")
    statuses = [client.get("/api/v1/jobs", headers=headers).status_code for headers in (ada, bob)]
    assert statuses == [HTTPStatus.UNAUTHORIZED, HTTPStatus.OK]


def test_session_opens_pages_and_reads_the_api_but_cannot_write_by_the_api(app: Flask) -> None:
    ada = make_auth_headers(app, "ada")
    job_id = submit(app.test_client(), ada)
    browser = sign_in(app, ada)
    for address in ("/", "/jobs", "/knn", f"/jobs/{job_id}", "/api/v1/jobs", f"/api/v1/jobs/{job_id}", "/metrics"):
        assert browser.get(address).status_code == HTTPStatus.OK, address
    assert send_form(browser, f"/jobs/{job_id}", f"/jobs/{job_id}/cancel").status_code == HTTPStatus.SEE_OTHER
    for route in list_routes(app, job_id=job_id):
        if route.endpoint.startswith("api."):
            assert is_admitted(route.open(browser)) == (route.method in READING_METHODS), route


def test_session_ends_when_its_key_is_revoked(app: Flask) -> None:
    ada, _ = (make_auth_headers(app, name) for name in ("ada", "bob"))
    browser = sign_in(app, ada)
    assert browser.get("/jobs").status_code == HTTPStatus.OK
    revoke(app, "ada")
    admitted = [route for route in list_routes(app) if route.endpoint not in OPEN and is_admitted(route.open(browser))]
    assert admitted == []


def test_session_ends_at_sign_out(app: Flask) -> None:
    browser = sign_in(app, make_auth_headers(app, "ada"))
    assert send_form(browser, "/jobs", "/sign-out").headers["Location"] == "/sign-in"
    assert not is_admitted(browser.get("/jobs"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_session_cookie_is_protected_and_does_not_contain_the_key(make_app: MakeApp, scheme: str) -> None:
    app = make_app(trusted_proxies=1)
    ada = make_auth_headers(app, "ada")
    headers = {"Referer": f"{scheme}://localhost/sign-in", "X-Forwarded-Proto": scheme}
    response = send_key(app.test_client(), ada, headers=headers)
    flags = {part.strip() for part in response.headers["Set-Cookie"].split(";")[1:]}
    assert {"HttpOnly", "SameSite=Lax"} <= flags
    assert ("Secure" in flags) == (scheme == "https")
    assert ada["Authorization"].removeprefix("Bearer ") not in response.headers["Set-Cookie"]


def test_request_with_a_bearer_key_gets_no_cookie(app: Flask, client: FlaskClient) -> None:
    assert "Set-Cookie" not in client.get("/api/v1/jobs", headers=make_auth_headers(app, "ada")).headers


@pytest.mark.parametrize("wanted", ["/jobs?state=queued", "//evil.example", "https://evil.example", "/\\evil.example"])
def test_sign_in_redirects_only_to_pages_of_this_service(app: Flask, wanted: str) -> None:
    response = send_key(app.test_client(), make_auth_headers(app, "ada"), f"/sign-in?{urlencode({'next': wanted})}")
    assert response.headers["Location"] == (wanted if wanted.startswith("/jobs") else "/")


def test_sign_in_redirects_to_the_page_that_needed_a_key(app: Flask) -> None:
    ada, client = make_auth_headers(app, "ada"), app.test_client()
    sign_in_page = client.get("/jobs?state=queued").headers["Location"]
    assert send_key(client, ada, sign_in_page).headers["Location"] == "/jobs?state=queued"


@pytest.mark.parametrize("with_token_of_another", [False, True])
def test_form_without_the_csrf_token_of_the_session_is_refused(app: Flask, with_token_of_another: bool) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    job_id = submit(app.test_client(), ada)
    browser, other = sign_in(app, ada), sign_in(app, bob)
    own, others = (
        Page(session.get("/knn").text).find_form("/knn").fields["csrf_token"] for session in (browser, other)
    )
    assert own != others
    token = {"csrf_token": others} if with_token_of_another else {}
    for address in (f"/jobs/{job_id}/cancel", f"/jobs/{job_id}/retry", f"/jobs/{job_id}/delete", "/knn", "/sign-out"):
        response = browser.post(address, data=token, headers=HTML)
        assert response.status_code == HTTPStatus.BAD_REQUEST, address
        assert "Open its page again" in response.text, address
        assert "/" in [link["href"] for link in Page(response.text).find_all("a")], address
    jobs = read(app.test_client().get("/api/v1/jobs", headers=ada))["jobs"]
    assert [(job["id"], job["state"]) for job in jobs] == [(job_id, "queued")]


def test_request_from_another_site_is_refused_even_with_a_key(app: Flask) -> None:
    ada = make_auth_headers(app, "ada")
    browser = sign_in(app, ada)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for address in ("/knn", "/sign-in", "/api/v1/jobs", "/api/v1/uploads"):
            assert browser.post(address, headers=ada | headers).status_code == HTTPStatus.FORBIDDEN, address


@pytest.fixture
def restricted(app: Flask) -> str:
    """The address of a view that only operators may use."""
    blueprint = Blueprint("restricted", __name__)
    blueprint.before_request(require_operator)
    blueprint.get("/restricted")(lambda: "for operators")
    app.register_blueprint(blueprint)
    return "/restricted"


def test_everyone_is_an_operator_while_no_key_is_needed(client: FlaskClient, restricted: str) -> None:
    assert client.get(restricted).text == "for operators"


def test_only_the_key_and_the_session_of_an_operator_may_operate(app: Flask, restricted: str) -> None:
    ada, eve = make_auth_headers(app, "ada"), make_auth_headers(app, "eve", Role.OPERATOR)
    for client, headers, allowed in (
        (app.test_client(), ada, False),
        (sign_in(app, ada), {}, False),
        (app.test_client(), eve, True),
        (sign_in(app, eve), {}, True),
    ):
        response = client.get(restricted, headers=headers)
        assert response.status_code == (HTTPStatus.OK if allowed else HTTPStatus.FORBIDDEN)
        if not allowed:
            assert response.content_type == "application/problem+json"
            assert read(response)["type"] == "operator-only"
            assert "python -m web keys create NAME --operator" in read(response)["detail"]
    assert app.test_client().get(restricted).status_code == HTTPStatus.UNAUTHORIZED


def test_role_depends_on_the_key_alone_once_a_key_exists(app: Flask, client: FlaskClient, restricted: str) -> None:
    ada = make_auth_headers(app, "ada", Role.OPERATOR)
    assert client.get(restricted, headers=ada).status_code == HTTPStatus.OK
    revoke(app, "ada")
    assert client.get(restricted, headers=ada).status_code == HTTPStatus.UNAUTHORIZED


@pytest.fixture
def finished(app: Flask, client: FlaskClient, services: Services) -> tuple[Headers, Headers, str]:
    """The headers of two keys, and the id of an ended job of the first key; the job has one sample."""
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    job_id = submit(client, ada, "musicgen")
    succeed(services, job_id, MUSIC | {"samples": [make_sample(0)]}, FILES)
    return ada, bob, job_id


def test_job_of_another_key_is_not_found_at_any_address(
    app: Flask, client: FlaskClient, finished: tuple[Headers, Headers, str]
) -> None:
    ada, bob, job_id = finished
    routes = [route for route in list_routes(app, job_id=job_id) if job_id in route.address]
    assert len({route.endpoint for route in routes}) == 14
    for headers in (bob, {"Cookie": read_cookie(sign_in(app, bob))}):
        for route in routes:
            is_session_write = (
                "Cookie" in headers and route.endpoint.startswith("api.") and route.method not in READING_METHODS
            )
            expected = HTTPStatus.UNAUTHORIZED if is_session_write else HTTPStatus.NOT_FOUND
            assert route.open(app.test_client(use_cookies=False), **headers).status_code == expected, route
    for route in routes:  # the owner finds the job at each address, but cannot cancel the ended job
        assert route.open(client, **ada).status_code < HTTPStatus.NOT_FOUND or route.endpoint == "api.cancel_job", route


def read_cookie(browser: FlaskClient) -> str:
    name = browser.application.config["SESSION_COOKIE_NAME"]
    cookie = browser.get_cookie(name)
    assert cookie is not None
    return f"{name}={cookie.value}"


def test_jobs_of_another_key_are_not_listed(
    app: Flask, client: FlaskClient, finished: tuple[Headers, Headers, str]
) -> None:
    ada, bob, job_id = finished
    own = submit(client, bob)
    for headers, listed in ((ada, [job_id]), (bob, [own])):
        assert [job["id"] for job in read(client.get("/api/v1/jobs", headers=headers))["jobs"]] == listed
        for query in ("kind=musicgen", "state=succeeded", f"cursor={make_id()}"):
            jobs = read(client.get(f"/api/v1/jobs?{query}", headers=headers))["jobs"]
            assert {job["id"] for job in jobs} <= set(listed)
        browser = sign_in(app, headers)
        for address in ("/", "/jobs"):
            text = browser.get(address).text
            assert [shown for shown in (job_id, own) if shown in text] == listed


def test_upload_of_another_key_is_not_found(app: Flask, client: FlaskClient) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    upload_id = read(client.post("/api/v1/uploads", data=TABLE, headers=ada))["id"]
    for headers, is_own in ((bob, False), (ada, True)):
        browser = sign_in(app, headers)
        assert (browser.get(f"/uploads/{upload_id}", buffered=True).status_code == HTTPStatus.OK) == is_own
        sent = send_form(browser, "/knn", upload=upload_id, k="1", train_size="2")
        assert (sent.status_code == HTTPStatus.SEE_OTHER) == is_own, sent.text
        for params in (
            {"dataset": {"upload": upload_id}, "k": 1, "evaluation": {"method": "loo"}},
            {"audio_prompts": [{"upload": upload_id}]},
        ):
            kind = "knn" if "dataset" in params else "musicgen"
            response = client.post("/api/v1/jobs", json={"kind": kind, "params": params}, headers=headers)
            codes = {problem["code"] for problem in read(response).get("errors", ())}
            assert ("upload-not-found" in codes) != is_own, response.text


def test_two_owners_with_the_same_idempotency_key_get_two_jobs(app: Flask, client: FlaskClient) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    once = {"Idempotency-Key": "once"}
    first, again, others = (submit(client, headers, **once) for headers in (ada, ada, bob))
    assert first == again
    assert first != others


def test_job_submitted_before_the_first_key_belongs_to_no_key(app: Flask, client: FlaskClient) -> None:
    job_id = submit(client, {})
    ada = make_auth_headers(app, "ada")
    assert client.get(f"/api/v1/jobs/{job_id}", headers=ada).status_code == HTTPStatus.NOT_FOUND
    assert read(client.get("/api/v1/jobs", headers=ada))["jobs"] == []


def test_instances_on_one_host_use_different_cookies(app: Flask) -> None:
    assert app.config["SESSION_COOKIE_NAME"].endswith(f"-{get_context(app).services.settings.port}")


def test_failed_read_of_the_keys_is_not_repeated_by_the_next_requests(app: Flask, client: FlaskClient) -> None:
    reads = 0

    def fail(_: Database) -> None:
        nonlocal reads
        reads += 1
        raise OperationalError("SELECT", None, Exception("connection lost"))

    expire_key_cache(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("web.key_cache.MAX_AGE_S", DEADLINE_S)
        patch.setattr("shared.api_keys.list_keys", fail)
        statuses = {client.get("/api/v1/jobs").status_code for _ in range(3)}
    assert (statuses, reads) == ({503}, 1)
    expire_key_cache(app)
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
