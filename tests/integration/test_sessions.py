"""Sessions of browsers: they end on the server at sign-out, with their key, and after 30 days."""

from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select, update

from shared import api_keys, sessions
from shared.database.connection import Database, now
from shared.database.tables import BrowserSession
from shared.ids import make_id
from shared.maintenance import cleanup
from shared.services import Services
from shared.settings import Settings
from tests.support.auth_headers import Headers, expire_key_cache, make_auth_headers, revoke
from tests.support.html_pages import Page, send_form
from web import create_app
from web.context import get_context


def sign_in(app: Flask, headers: Headers, client: FlaskClient | None = None) -> FlaskClient:
    """Sign in with a key, and return the client, which has a session from then on, like a browser."""
    client = client or app.test_client()
    form = Page(client.get("/sign-in").text).find_form(None)
    fields = form.fields | {"key": headers["Authorization"].removeprefix("Bearer ")}
    assert client.post("/sign-in", data=fields).status_code == HTTPStatus.SEE_OTHER
    return client


def copy_cookie(browser: FlaskClient) -> Headers:
    """Return the headers of a request with a copy of the browser's cookie."""
    name = browser.application.config["SESSION_COOKIE_NAME"]
    cookie = browser.get_cookie(name)
    assert cookie is not None
    return {"Cookie": f"{name}={cookie.value}"}


def read(app: Flask, headers: Headers, path: str = "/api/v1/jobs") -> int:
    return app.test_client(use_cookies=False).get(path, headers=headers).status_code


def list_hashes(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(BrowserSession.sha256)))


@pytest.fixture
def make_app(settings: Settings) -> Iterator[Callable[[], Flask]]:
    """Return a function that makes a web application, as further web processes of the instance do."""
    made: list[Flask] = []

    def make() -> Flask:
        made.append(create_app(settings))
        return made[-1]

    yield make
    for app in made:
        get_context(app).services.close()


def test_copied_cookie_is_refused_by_every_process_after_sign_out(app: Flask, make_app: Callable[[], Flask]) -> None:
    ada = make_auth_headers(app, "ada")
    browser, other_browser, other_process = sign_in(app, ada), sign_in(app, ada), make_app()
    copies = [copy_cookie(browser), copy_cookie(other_browser)]
    for process in (app, other_process):
        assert [read(process, copy) for copy in copies] == [HTTPStatus.OK, HTTPStatus.OK]
    assert send_form(browser, "/jobs", "/sign-out").status_code == HTTPStatus.SEE_OTHER
    for process in (app, other_process):
        assert [read(process, copy) for copy in copies] == [HTTPStatus.UNAUTHORIZED, HTTPStatus.OK]
        assert read(process, copies[0], "/jobs") == HTTPStatus.SEE_OTHER


def test_new_sign_in_ends_the_earlier_session_of_the_browser(app: Flask, services: Services) -> None:
    ada = make_auth_headers(app, "ada")
    browser = sign_in(app, ada)
    earlier = copy_cookie(browser)
    sign_in(app, ada, browser)
    assert (read(app, earlier), read(app, copy_cookie(browser))) == (HTTPStatus.UNAUTHORIZED, HTTPStatus.OK)
    assert len(list_hashes(services.database)) == 1


def test_only_the_hash_of_a_session_is_stored_and_revoking_the_key_deletes_it(app: Flask, services: Services) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    browser = sign_in(app, ada)
    sign_in(app, bob)
    with browser.session_transaction() as session:
        session_id = session["session"]
    hashes = list_hashes(services.database)
    assert api_keys.hash_key(session_id) in hashes
    assert session_id not in hashes
    revoke(app, "ada")
    assert len(list_hashes(services.database)) == 1
    assert read(app, copy_cookie(browser)) == HTTPStatus.UNAUTHORIZED


def test_session_expires_and_is_deleted_by_the_cleanup(app: Flask, services: Services) -> None:
    browser = sign_in(app, make_auth_headers(app, "ada"))
    young = sign_in(app, make_auth_headers(app, "bob"))
    with browser.session_transaction() as session:
        expired = BrowserSession.sha256 == api_keys.hash_key(session["session"])
    cleanup.clean_up(services)
    assert len(list_hashes(services.database)) == 2
    with services.database.writing() as transaction:
        transaction.execute(update(BrowserSession).where(expired).values(expires_at=now(-1)))
    assert read(app, copy_cookie(browser)) == HTTPStatus.UNAUTHORIZED
    cleanup.clean_up(services)
    assert len(list_hashes(services.database)) == 1
    assert read(app, copy_cookie(young)) == HTTPStatus.OK


def test_new_session_lasts_thirty_days(services: Services) -> None:
    api_keys.create_key(services.database, "ada")
    sessions.start_session(services.database, api_keys.find_key(services.database, "ada").id)
    with services.database.reading() as session:
        row = session.scalars(select(BrowserSession)).one()
    assert (row.expires_at - row.created_at).total_seconds() == pytest.approx(sessions.LIFETIME_S, abs=1) == 30 * 86_400


def test_cookie_of_an_earlier_version_is_not_admitted(app: Flask, services: Services) -> None:
    make_auth_headers(app, "ada")
    browser = app.test_client()
    with browser.session_transaction() as session:
        session["key"] = api_keys.find_key(services.database, "ada").id
    assert browser.get("/api/v1/jobs").status_code == HTTPStatus.UNAUTHORIZED
    assert browser.get("/jobs").headers["Location"].startswith("/sign-in")


def test_sign_in_with_a_key_that_has_just_been_revoked_is_refused(
    app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = make_auth_headers(app, "ada")
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 3600.0)
    assert read(app, ada) == HTTPStatus.OK
    api_keys.revoke_key(services.database, "ada")  # the web has not noticed it yet
    client = app.test_client()
    fields = Page(client.get("/sign-in").text).find_form(None).fields
    for _ in range(2):
        sent = client.post("/sign-in", data=fields | {"key": ada["Authorization"].removeprefix("Bearer ")})
        assert sent.status_code == HTTPStatus.UNAUTHORIZED
        assert "is not a valid API key" in sent.text
    assert list_hashes(services.database) == []


def test_event_stream_of_a_session_ends_at_sign_out(app: Flask) -> None:
    browser = sign_in(app, make_auth_headers(app, "ada"))
    job_id = send_form(browser, "/knn").headers["Location"].rpartition("/")[2]
    stream = browser.get(f"/api/v1/jobs/{job_id}/events").iter_encoded()
    assert any(b"event: state" in part for part in stream)
    send_form(browser, "/jobs", "/sign-out")
    assert list(stream) == []


def test_request_with_a_key_reads_no_session_even_if_it_has_a_cookie(app: Flask) -> None:
    ada = make_auth_headers(app, "ada")
    both = ada | copy_cookie(sign_in(app, ada))
    statements: list[str] = []
    engine = get_context(app).services.database.engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    for headers, expected in ((ada, False), (both, False), ({"Cookie": both["Cookie"]}, True)):
        statements.clear()
        assert read(app, headers) == HTTPStatus.OK
        assert any("FROM sessions" in statement for statement in statements) == expected


def test_ended_session_may_sign_out_and_end_again(app: Flask, services: Services) -> None:
    sessions.end_session(services.database, make_id())
    browser = sign_in(app, make_auth_headers(app, "ada"))
    with browser.session_transaction() as session:
        session_id = session["session"]
    for _ in range(2):
        sessions.end_session(services.database, session_id)
        assert sessions.find_owner(services.database, session_id) is None


def test_sign_out_on_an_open_service_needs_no_session(app: Flask) -> None:
    expire_key_cache(app)
    client = app.test_client()
    fields = Page(client.get("/sign-in").text).find_form(None).fields
    assert client.post("/sign-out", data=fields).status_code == HTTPStatus.SEE_OTHER
