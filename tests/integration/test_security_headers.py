"""What every answer tells a browser to keep from, and pages that keep to it."""

import re
from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.database.migrate import ROOT
from shared.jobs import Outcome, State
from shared.services import Services
from tests.support.auth_headers import make_auth_headers
from tests.support.job_outcomes import end, start_job
from web.request_hooks import HEADERS

# Nothing here depends on the database.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

POLICY = "Content-Security-Policy"
PEOPLE = {"Accept": "text/html"}
PAGES = ["/", "/knn", "/musicgen", "/jobs", "/jobs?limit=none", "/sign-in", "/nowhere", "/api/v1/docs"]
PICTURE = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
FILES = {"scatter.svg": ("image/svg+xml", PICTURE), "report.html": ("text/html", PICTURE)}
INLINE = {
    "an attribute that is a script": re.compile(r"<[^>]*\son\w+\s*=", re.IGNORECASE),
    "an attribute that is a style": re.compile(r"<[^>]*\sstyle\s*=", re.IGNORECASE),
    "an element that is a style": re.compile(r"<style", re.IGNORECASE),
    "an element that is a script": re.compile(r"<script(?![^>]*\ssrc=)", re.IGNORECASE),
    "an address that is a script": re.compile(r"=\s*[\"']?\s*javascript:", re.IGNORECASE),
}


@pytest.fixture
def job(client: FlaskClient, services: Services) -> str:
    """The address of an ended job with a picture and a page of its own, so to say."""
    answer = client.post("/api/v1/jobs", json={"kind": "knn", "device": "cpu", "labels": {"<b onclick=x>": "style="}})
    assert answer.json is not None
    job_id = answer.json["id"]
    error = {"type": "t", "title": "<script>alert(1)</script>", "detail": "<img src=x onerror=alert(1)>"}
    end(services, start_job(services, job_id), Outcome(State.FAILED, error=error), FILES)
    return f"/jobs/{job_id}"


@on_sqlite
def test_every_answer_has_them(client: FlaskClient, job: str) -> None:
    api = [f"/api/v1{job}", "/api/v1/jobs", "/api/v1/jobs?limit=none", "/api/v1/openapi.json", "/api/v1/nowhere"]
    files = ["/static/style.css", "/static/job.js", "/bootstrap/static/css/bootstrap.min.css", "/static/nowhere"]
    others = ["/healthz", "/readyz", "/metrics", f"/api/v1{job}/events", "/%00"]
    for address in [*PAGES, job, *api, *files, *others]:
        for accept in (PEOPLE, {}):
            headers = client.get(address, headers=accept, buffered=True).headers
            assert HEADERS.items() <= dict(headers).items(), address
    for method, address in (("POST", "/knn"), ("DELETE", "/jobs"), ("OPTIONS", "/api/v1/jobs"), ("HEAD", "/")):
        assert HEADERS.items() <= dict(client.open(address, method=method).headers).items(), (method, address)


@on_sqlite
def test_so_do_the_answers_to_strangers(app: Flask, client: FlaskClient) -> None:
    renamed = client.get("/", headers=PEOPLE | {"Host": "evil.example"})
    make_auth_headers(app, "ada")
    answers = [renamed, client.get("/jobs", headers=PEOPLE), client.get("/api/v1/jobs")]
    assert [answer.status_code for answer in answers] == [
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.UNAUTHORIZED,
    ]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items()


@on_sqlite
def test_what_nobody_foresaw_has_them_too(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down() -> str:
        raise ZeroDivisionError

    monkeypatch.setitem(app.view_functions, "pages.show_home", break_down)
    answer = client.get("/", headers=PEOPLE)
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("name", ["scatter.svg", "report.html"])
@on_sqlite
def test_what_jobs_made_may_do_nothing(client: FlaskClient, job: str, name: str) -> None:
    headers = dict(client.get(f"/api/v1{job}/artifacts/{name}", buffered=True).headers)
    policy = {part.strip() for part in headers[POLICY].split(";")}
    assert {"default-src 'none'", "sandbox"} <= policy
    assert not any("script" in part for part in policy)
    assert HEADERS.items() - {(POLICY, HEADERS[POLICY])} <= headers.items()


@on_sqlite
def test_no_page_has_scripts_or_styles_of_its_own(client: FlaskClient, job: str) -> None:
    for address in [*PAGES, job, "/jobs?state=failed"]:
        text = client.get(address, headers=PEOPLE).text
        assert "<html" in text, address
        found = [what for what, pattern in INLINE.items() if pattern.search(text)]
        assert found == [], address


def test_no_template_has_any() -> None:
    templates = list((ROOT / "web" / "templates").rglob("*.html"))
    assert templates
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
def test_any_would_be_found(text: str) -> None:
    assert any(pattern.search(text) for pattern in INLINE.values())
