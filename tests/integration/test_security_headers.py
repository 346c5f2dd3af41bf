"""Every response has the security headers, and no page contains what the headers forbid."""

import re
from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.database.migrate import ROOT
from shared.jobs import Outcome, State
from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.auth_headers import make_auth_headers
from tests.support.job_outcomes import end, start_job, succeed
from web.security_headers import HEADERS

# The tests of this module do not depend on the database, so they run on SQLite only.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

POLICY = "Content-Security-Policy"
HTML = {"Accept": "text/html"}
PAGES = ["/", "/knn", "/musicgen", "/jobs", "/jobs?limit=none", "/sign-in", "/nowhere", "/api/v1/docs"]
PICTURE = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
FILES = {"scatter.svg": ("image/svg+xml", PICTURE), "report.html": ("text/html", PICTURE)}
INLINE = {
    "a script in an attribute": re.compile(r"<[^>]*\son\w+\s*=", re.IGNORECASE),
    "a style in an attribute": re.compile(r"<[^>]*\sstyle\s*=", re.IGNORECASE),
    "a style element": re.compile(r"<style", re.IGNORECASE),
    "an inline script element": re.compile(r"<script(?![^>]*\ssrc=)", re.IGNORECASE),
    "a script in an address": re.compile(r"=\s*[\"']?\s*javascript:", re.IGNORECASE),
}


@pytest.fixture
def job(client: FlaskClient, services: Services) -> str:
    """The address of a failed job whose labels and error contain HTML."""
    response = client.post("/api/v1/jobs", json={"kind": "knn", "device": "cpu", "labels": {"<b onclick=x>": "style="}})
    assert response.json is not None
    job_id = response.json["id"]
    error = {"type": "t", "title": "<script>alert(1)</script>", "detail": "<img src=x onerror=alert(1)>"}
    end(services, start_job(services, job_id), Outcome(State.FAILED, error=error), {})
    return f"/jobs/{job_id}"


@pytest.fixture
def job_with_files(services: Services) -> str:
    """The address of a job that succeeded with two artifacts, an SVG file and an HTML file."""
    job_id = submit_job(services, {"kind": "knn", "device": "cpu"})[0].id
    succeed(services, job_id, {}, FILES)
    return f"/jobs/{job_id}"


@on_sqlite
def test_every_response_has_the_security_headers(client: FlaskClient, job: str) -> None:
    api = [f"/api/v1{job}", "/api/v1/jobs", "/api/v1/jobs?limit=none", "/api/v1/openapi.json", "/api/v1/nowhere"]
    files = [
        "/static/style.css",
        "/static/job.js",
        "/static/knn/form.js",
        "/bootstrap/static/css/bootstrap.min.css",
        "/static/nowhere",
    ]
    others = ["/healthz", "/readyz", "/metrics", f"/api/v1{job}/events", "/%00"]
    for address in [*PAGES, job, *api, *files, *others]:
        for accept in (HTML, {}):
            headers = client.get(address, headers=accept, buffered=True).headers
            assert HEADERS.items() <= dict(headers).items(), address
    for method, address in (("POST", "/knn"), ("DELETE", "/jobs"), ("OPTIONS", "/api/v1/jobs"), ("HEAD", "/")):
        assert HEADERS.items() <= dict(client.open(address, method=method).headers).items(), (method, address)


@on_sqlite
def test_responses_to_refused_requests_have_the_security_headers(app: Flask, client: FlaskClient) -> None:
    untrusted = client.get("/", headers=HTML | {"Host": "evil.example"})
    make_auth_headers(app, "ada")
    responses = [untrusted, client.get("/jobs", headers=HTML), client.get("/api/v1/jobs")]
    assert [response.status_code for response in responses] == [
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.UNAUTHORIZED,
    ]
    for response in responses:
        assert HEADERS.items() <= dict(response.headers).items()


@on_sqlite
def test_responses_to_unexpected_errors_have_the_security_headers(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise ZeroDivisionError

    monkeypatch.setitem(app.view_functions, "pages.show_home", fail)
    response = client.get("/", headers=HTML)
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert HEADERS.items() <= dict(response.headers).items()


@pytest.mark.parametrize("name", ["scatter.svg", "report.html"])
@on_sqlite
def test_artifacts_may_not_run_scripts(client: FlaskClient, job_with_files: str, name: str) -> None:
    headers = dict(client.get(f"/api/v1{job_with_files}/artifacts/{name}", buffered=True).headers)
    policy = {part.strip() for part in headers[POLICY].split(";")}
    assert {"default-src 'none'", "sandbox"} <= policy
    assert not any("script" in part for part in policy)
    assert HEADERS.items() - {(POLICY, HEADERS[POLICY])} <= headers.items()


@on_sqlite
def test_no_page_has_inline_scripts_or_styles(client: FlaskClient, job: str) -> None:
    for address in [*PAGES, job, "/jobs?state=failed"]:
        text = client.get(address, headers=HTML).text
        assert "<html" in text, address
        found = [what for what, pattern in INLINE.items() if pattern.search(text)]
        assert found == [], address


def test_no_template_has_inline_scripts_or_styles() -> None:
    templates = list((ROOT / "web").rglob("*.html"))
    assert len(templates) > 10
    for template in templates:
        text = re.sub(r"{%.*?%}", "", template.read_text(), flags=re.DOTALL)
        found = [what for what, pattern in INLINE.items() if pattern.search(text)]
        assert found == [], template.name


@pytest.mark.parametrize(
    "text",
    [
        '<a onclick="x">',
        "<p class=a\nOnLoad = x>",
        '<p style="x">',
        "<style>",
        "<script>x</script>",
        "<script type=module>",
        "<a href='javascript:x'>",
    ],
)
def test_patterns_find_inline_scripts_and_styles(text: str) -> None:
    assert any(pattern.search(text) for pattern in INLINE.values())
