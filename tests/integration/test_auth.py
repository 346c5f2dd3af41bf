"""Who may come in, and whose jobs and files they meet there."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from shared.api_keys import create_key
from shared.database.connection import Database
from shared.ids import make_id
from shared.services import Services
from shared.settings import Settings
from tests.support.auth_headers import Headers, expire_key_cache, make_auth_headers, revoke
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import MUSIC, make_sample, succeed
from web import create_app
from web.context import get_context

# Nothing here depends on the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OPEN = {"health.alive", "health.ready", "static", "bootstrap.static", "pages.sign_in"}
LOOKS = {"GET", "HEAD"}
PEOPLE = {"Accept": "text/html"}
TABLE = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"
FILES = {
    "audio-0.ogg": ("audio/ogg", b"OggS" + bytes(96)),
    "waveform-0.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
}


@dataclass(frozen=True)
class Route:
    """A way into the application."""

    endpoint: str
    method: str
    address: str

    def open(self, client: FlaskClient, **headers: str) -> TestResponse:
        """Go there."""
        return client.open(self.address, method=self.method, headers=headers, buffered=True)


def list_routes(app: Flask, **given: object) -> list[Route]:
    """List every address with every method that the application knows; removal last, as nothing follows it."""
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


def is_let_in(answer: TestResponse) -> bool:
    return answer.status_code != HTTPStatus.UNAUTHORIZED and "/sign-in" not in answer.headers.get("Location", "")


def submit(client: FlaskClient, bearer: Headers, kind: str = "knn", **headers: str) -> str:
    answer = client.post("/api/v1/jobs", json={"kind": kind, "device": "cpu"}, headers=bearer | headers)
    assert answer.status_code in {200, 202}, answer.text
    return read(answer)["id"]  # type: ignore[no-any-return]  # a job has one


def read(answer: TestResponse) -> dict[str, Any]:
    assert answer.json is not None
    return dict(answer.json)


def send_key(client: FlaskClient, bearer: Headers, page: str = "/sign-in", **how: Any) -> TestResponse:
    """Fill in the form of a sign-in, which goes to the page's own address."""
    form = Page(client.get(page, **how).text).find_form(None)
    key = bearer["Authorization"].removeprefix("Bearer ")
    answer = client.post(page, data=form.fields | {"key": key}, **how)
    assert answer.status_code == HTTPStatus.SEE_OTHER, answer.text
    return answer


def sign_in(app: Flask, bearer: Headers) -> FlaskClient:
    """Return a browser with a session."""
    client = app.test_client()
    send_key(client, bearer)
    return client


def test_without_keys_all_is_open_on_loopback(app: Flask, client: FlaskClient) -> None:
    routes = list_routes(app)
    assert {route.endpoint for route in routes} == app.view_functions.keys()
    shut = [route for route in routes if route.endpoint != "pages.sign_out" and not is_let_in(route.open(client))]
    assert shut == []


def check_that_keys_are_asked_for(app: Flask) -> None:
    client = app.test_client()
    for route in list_routes(app):
        answer = route.open(client)
        if route.endpoint in OPEN:
            assert is_let_in(answer), route
        elif route.endpoint.startswith("pages.") and route.method in LOOKS:
            assert answer.status_code == HTTPStatus.SEE_OTHER, route
            assert answer.headers["Location"].startswith("/sign-in?next=/"), route
        else:
            assert answer.status_code == HTTPStatus.UNAUTHORIZED, route
            assert answer.headers["WWW-Authenticate"] == "Bearer", route
            assert answer.content_type == "application/problem+json", route
    assert client.get("/nowhere").status_code == HTTPStatus.UNAUTHORIZED


def test_with_the_first_key_everything_needs_one(app: Flask, client: FlaskClient, services: Services) -> None:
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    create_key(services.database, "ada")
    expire_key_cache(app)
    check_that_keys_are_asked_for(app)


def test_keys_are_read_anew_after_a_moment(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 3600.0)
    client = app.test_client()
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    create_key(services.database, "ada")
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 0.0)
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.UNAUTHORIZED


def test_where_others_may_reach_it_a_key_is_needed_before_there_is_one(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}))  # noqa: S104 - nothing listens
    check_that_keys_are_asked_for(app)
    get_context(app).services.close()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_opens_in_any_spelling_of_the_scheme(app: Flask, client: FlaskClient, scheme: str) -> None:
    key = make_auth_headers(app, "ada")["Authorization"].removeprefix("Bearer ")
    assert client.get("/api/v1/jobs", headers={"Authorization": f"{scheme} {key}"}).status_code == HTTPStatus.OK


@pytest.mark.parametrize("given", ["Bearer mj_wrong", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key}x"])
def test_what_is_no_key_opens_nothing(app: Flask, client: FlaskClient, given: str) -> None:
    key = make_auth_headers(app, "ada")["Authorization"].removeprefix("Bearer ")
    answer = client.get("/api/v1/jobs", headers={"Authorization": given.format(key=key)})
    assert answer.status_code == HTTPStatus.UNAUTHORIZED


def test_a_revoked_key_opens_nothing(app: Flask, client: FlaskClient) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    revoke(app, "ada")
    statuses = [client.get("/api/v1/jobs", headers=bearer).status_code for bearer in (ada, bob)]
    assert statuses == [HTTPStatus.UNAUTHORIZED, HTTPStatus.OK]


def test_a_session_opens_pages_and_may_only_look_at_the_api(app: Flask) -> None:
    ada = make_auth_headers(app, "ada")
    job_id = submit(app.test_client(), ada)
    browser = sign_in(app, ada)
    for address in ("/", "/jobs", "/knn", f"/jobs/{job_id}", "/api/v1/jobs", f"/api/v1/jobs/{job_id}", "/metrics"):
        assert browser.get(address).status_code == HTTPStatus.OK, address
    assert send_form(browser, f"/jobs/{job_id}", f"/jobs/{job_id}/cancel").status_code == HTTPStatus.SEE_OTHER
    for route in list_routes(app, job_id=job_id):
        if route.endpoint.startswith("api."):
            looks = route.method in LOOKS
            assert is_let_in(route.open(browser)) == looks, route


def test_a_session_ends_with_its_key(app: Flask) -> None:
    ada, _ = (make_auth_headers(app, name) for name in ("ada", "bob"))
    browser = sign_in(app, ada)
    assert browser.get("/jobs").status_code == HTTPStatus.OK
    revoke(app, "ada")
    opened = [route for route in list_routes(app) if route.endpoint not in OPEN and is_let_in(route.open(browser))]
    assert opened == []


def test_a_session_ends_with_the_sign_out(app: Flask) -> None:
    browser = sign_in(app, make_auth_headers(app, "ada"))
    assert send_form(browser, "/jobs", "/sign-out").headers["Location"] == "/sign-in"
    assert not is_let_in(browser.get("/jobs"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_sessions_cookie_is_for_this_service_alone(app: Flask, scheme: str) -> None:
    ada = make_auth_headers(app, "ada")
    origin = f"{scheme}://localhost"
    answer = send_key(app.test_client(), ada, base_url=origin, headers={"Referer": f"{origin}/sign-in"})
    flags = {part.strip() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert {"HttpOnly", "SameSite=Lax"} <= flags
    assert ("Secure" in flags) == (scheme == "https")
    assert ada["Authorization"].removeprefix("Bearer ") not in answer.headers["Set-Cookie"]


def test_programs_get_no_cookie(app: Flask, client: FlaskClient) -> None:
    assert "Set-Cookie" not in client.get("/api/v1/jobs", headers=make_auth_headers(app, "ada")).headers


@pytest.mark.parametrize("wanted", ["/jobs?state=queued", "//evil.example", "https://evil.example", "/\\evil.example"])
def test_the_sign_in_leads_on_to_pages_of_this_service_only(app: Flask, wanted: str) -> None:
    answer = send_key(app.test_client(), make_auth_headers(app, "ada"), f"/sign-in?{urlencode({'next': wanted})}")
    assert answer.headers["Location"] == (wanted if wanted.startswith("/jobs") else "/")


def test_a_page_that_needs_a_key_is_shown_after_the_sign_in(app: Flask) -> None:
    ada, client = make_auth_headers(app, "ada"), app.test_client()
    led_to = client.get("/jobs?state=queued").headers["Location"]
    assert send_key(client, ada, led_to).headers["Location"] == "/jobs?state=queued"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_form_without_its_sessions_token_is_refused(app: Flask, elsewhere: bool) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    job_id = submit(app.test_client(), ada)
    browser, other = sign_in(app, ada), sign_in(app, bob)
    own, others = (
        Page(session.get("/knn").text).find_form("/knn").fields["csrf_token"] for session in (browser, other)
    )
    assert own != others
    token = {"csrf_token": others} if elsewhere else {}
    for address in (f"/jobs/{job_id}/cancel", f"/jobs/{job_id}/retry", f"/jobs/{job_id}/delete", "/knn", "/sign-out"):
        answer = browser.post(address, data=token, headers=PEOPLE)
        assert answer.status_code == HTTPStatus.BAD_REQUEST, address
        assert "open its page again" in answer.text, address
        assert "/" in [link["href"] for link in Page(answer.text).find_all("a")], address
    jobs = read(app.test_client().get("/api/v1/jobs", headers=ada))["jobs"]
    assert [(job["id"], job["state"]) for job in jobs] == [(job_id, "queued")]


def test_another_sites_page_is_refused_whatever_it_brings(app: Flask) -> None:
    ada = make_auth_headers(app, "ada")
    browser = sign_in(app, ada)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for address in ("/knn", "/sign-in", "/api/v1/jobs", "/api/v1/uploads"):
            assert browser.post(address, headers=ada | headers).status_code == HTTPStatus.FORBIDDEN, address


@pytest.fixture
def finished(app: Flask, client: FlaskClient, services: Services) -> tuple[Headers, Headers, str]:
    """Two keys, and an ended job with a sample, the first one's."""
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    job_id = submit(client, ada, "musicgen")
    succeed(services, job_id, MUSIC | {"samples": [make_sample(0)]}, FILES)
    return ada, bob, job_id


def test_another_keys_job_is_not_there_at_any_address(
    app: Flask, client: FlaskClient, finished: tuple[Headers, Headers, str]
) -> None:
    ada, bob, job_id = finished
    routes = [route for route in list_routes(app, job_id=job_id) if job_id in route.address]
    assert len({route.endpoint for route in routes}) == 13
    for bearer in (bob, {"Cookie": read_cookie(sign_in(app, bob))}):
        for route in routes:
            barred = "Cookie" in bearer and route.endpoint.startswith("api.") and route.method not in LOOKS
            expected = HTTPStatus.UNAUTHORIZED if barred else HTTPStatus.NOT_FOUND
            assert route.open(app.test_client(use_cookies=False), **bearer).status_code == expected, route
    for route in routes:  # all were the same job's, which is there
        assert route.open(client, **ada).status_code < HTTPStatus.NOT_FOUND or route.endpoint == "api.cancel_job", route


def read_cookie(browser: FlaskClient) -> str:
    name = browser.application.config["SESSION_COOKIE_NAME"]
    cookie = browser.get_cookie(name)
    assert cookie is not None
    return f"{name}={cookie.value}"


def test_another_keys_jobs_are_not_listed(
    app: Flask, client: FlaskClient, finished: tuple[Headers, Headers, str]
) -> None:
    ada, bob, job_id = finished
    own = submit(client, bob)
    for bearer, listed in ((ada, [job_id]), (bob, [own])):
        assert [job["id"] for job in read(client.get("/api/v1/jobs", headers=bearer))["jobs"]] == listed
        for query in ("kind=musicgen", "state=succeeded", f"cursor={make_id()}"):
            jobs = read(client.get(f"/api/v1/jobs?{query}", headers=bearer))["jobs"]
            assert {job["id"] for job in jobs} <= set(listed)
        browser = sign_in(app, bearer)
        for address in ("/", "/jobs"):
            text = browser.get(address).text
            assert [shown for shown in (job_id, own) if shown in text] == listed


def test_another_keys_upload_is_not_there(app: Flask, client: FlaskClient) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    upload_id = read(client.post("/api/v1/uploads", data=TABLE, headers=ada))["id"]
    for bearer, there in ((bob, False), (ada, True)):
        browser = sign_in(app, bearer)
        assert (browser.get(f"/uploads/{upload_id}", buffered=True).status_code == HTTPStatus.OK) == there
        sent = send_form(browser, "/knn", upload=upload_id, k="1", train_size="2")
        assert (sent.status_code == HTTPStatus.SEE_OTHER) == there, sent.text
        for params in (
            {"dataset": {"upload": upload_id}, "k": 1, "evaluation": {"method": "loo"}},
            {"audio_prompts": [{"upload": upload_id}]},
        ):
            kind = "knn" if "dataset" in params else "musicgen"
            answer = client.post("/api/v1/jobs", json={"kind": kind, "params": params}, headers=bearer)
            missing = [
                problem["detail"] for problem in read(answer).get("errors", ()) if "no upload" in problem["detail"]
            ]
            assert bool(missing) != there, answer.text


def test_an_idempotency_key_is_its_owners(app: Flask, client: FlaskClient) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    once = {"Idempotency-Key": "once"}
    first, again, others = (submit(client, bearer, **once) for bearer in (ada, ada, bob))
    assert first == again
    assert first != others


def test_what_came_before_the_first_key_is_nobodys(app: Flask, client: FlaskClient) -> None:
    job_id = submit(client, {})
    ada = make_auth_headers(app, "ada")
    assert client.get(f"/api/v1/jobs/{job_id}", headers=ada).status_code == HTTPStatus.NOT_FOUND
    assert read(client.get("/api/v1/jobs", headers=ada))["jobs"] == []


def test_instances_on_one_host_have_a_cookie_each(app: Flask) -> None:
    assert app.config["SESSION_COOKIE_NAME"].endswith(f"-{get_context(app).services.settings.port}")


def test_who_waited_for_a_database_that_does_not_answer_does_not_ask_it_again(app: Flask, client: FlaskClient) -> None:
    asked = 0

    def fail(_: Database) -> None:
        nonlocal asked
        asked += 1
        raise OperationalError("SELECT", None, Exception("gone"))

    expire_key_cache(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.api_keys.list_keys", fail)
        statuses = {client.get("/api/v1/jobs").status_code for _ in range(3)}
    assert (statuses, asked) == ({503}, 1)
    expire_key_cache(app)
    assert client.get("/api/v1/jobs").status_code == HTTPStatus.OK
