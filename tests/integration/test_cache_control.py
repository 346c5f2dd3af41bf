"""Nobody may store what a page or a session shows; files and answers to programs can still be read again by ETag."""

from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared import api_keys
from shared.jobs import Origin
from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.auth_headers import Headers, make_auth_headers
from tests.support.html_pages import Page
from tests.support.job_outcomes import store_upload, succeed

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FORBIDDEN = {"private", "no-store"}
PAGES = ["/", "/knn", "/musicgen", "/jobs", "/jobs?limit=none", "/sign-in", "/nowhere", "/api/v1/docs"]
STATIC = ["/static/style.css", "/static/musicgen/form.js", "/bootstrap/static/css/bootstrap.min.css"]
FILES = {
    "report.html": ("text/html", b"<p>"),
    "scatter.svg": ("image/svg+xml", b"<svg/>"),
    "a.csv": ("text/csv", b"a\n"),
}


def read_directives(response: TestResponse) -> set[str]:
    return {part.strip() for part in response.headers.get("Cache-Control", "").split(",")} - {""}


@pytest.fixture
def ada(app: Flask) -> Headers:
    return make_auth_headers(app, "ada")


@pytest.fixture
def browser(app: Flask, ada: Headers) -> FlaskClient:
    """A client that is signed in."""
    client = app.test_client()
    form = Page(client.get("/sign-in").text).find_form(None)
    fields = form.fields | {"key": ada["Authorization"].removeprefix("Bearer ")}
    signed_in = client.post("/sign-in", data=fields)
    assert (signed_in.status_code, read_directives(signed_in)) == (HTTPStatus.SEE_OTHER, FORBIDDEN)
    return client


@pytest.fixture
def owner(services: Services, ada: Headers) -> str:
    assert ada  # the key has been created
    return api_keys.find_key(services.database, "ada").id


@pytest.fixture
def job(services: Services, owner: str) -> str:
    """The address of an ended job that has files."""
    job_id = submit_job(services, {"kind": "knn", "device": "cpu"}, origin=Origin(owner))[0].id
    succeed(services, job_id, {}, FILES)
    return f"/jobs/{job_id}"


def test_pages_may_not_be_stored_whoever_reads_them(app: Flask, browser: FlaskClient, ada: Headers, job: str) -> None:
    for client, headers in ((browser, {}), (app.test_client(), ada), (app.test_client(), {})):
        for address in [*PAGES, job]:
            response = client.get(address, headers=headers | {"Accept": "text/html"})
            assert response.mimetype == "text/html" or address.startswith("/api/"), address
            if response.mimetype == "text/html":
                assert read_directives(response) == FORBIDDEN, address


def test_json_and_streams_that_a_session_reads_may_not_be_stored(browser: FlaskClient, job: str) -> None:
    addresses = ["/api/v1/jobs", f"/api/v1{job}", f"/api/v1{job}/events", "/api/v1/models", "/api/v1/openapi.json"]
    for address in [*addresses, "/api/v1/nowhere", "/api/v1/jobs?limit=none", "/metrics"]:
        assert read_directives(browser.get(address, buffered=True)) == FORBIDDEN, address
    etag = browser.get(f"/api/v1{job}").headers["ETag"]
    again = browser.get(f"/api/v1{job}", headers={"If-None-Match": etag})
    assert (again.status_code, read_directives(again)) == (HTTPStatus.NOT_MODIFIED, FORBIDDEN)


def test_program_with_a_key_reads_a_job_again_by_its_etag(client: FlaskClient, ada: Headers, job: str) -> None:
    first = client.get(f"/api/v1{job}", headers=ada)
    again = client.get(f"/api/v1{job}", headers=ada | {"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code) == (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED)
    assert read_directives(first) == read_directives(again) == {"no-cache"}
    assert "Cache-Control" not in client.get("/api/v1/jobs", headers=ada).headers


def test_files_are_private_and_are_read_again_by_their_etag(
    browser: FlaskClient, services: Services, ada: Headers, owner: str, job: str
) -> None:
    upload = store_upload(services, b"a,b\n1,2\n", owner=owner)
    for client, headers in ((browser, {}), (browser.application.test_client(), ada)):
        for address in [*(f"/api/v1{job}/artifacts/{name}" for name in FILES), f"/uploads/{upload.id}"]:
            first = client.get(address, headers=headers, buffered=True)
            assert first.status_code == HTTPStatus.OK
            assert "private" in read_directives(first)
            assert not read_directives(first) & {"no-store", "public"}
            again = client.get(address, headers=headers | {"If-None-Match": first.headers["ETag"]}, buffered=True)
            assert again.status_code == HTTPStatus.NOT_MODIFIED, address


def test_static_files_can_be_cached(browser: FlaskClient) -> None:
    for address in STATIC:
        response = browser.get(address, buffered=True)
        assert response.status_code == HTTPStatus.OK, address
        assert not read_directives(response) & FORBIDDEN, address
        assert "ETag" in response.headers
