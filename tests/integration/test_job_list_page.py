"""The page that lists jobs: its filters, its links to older and newer jobs, and its buttons."""

from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from shared.database import queries, transitions
from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import start_job


def submit(services: Services, **body: Any) -> str:
    return submit_job(services, {"kind": "knn", **body})[0].id


def list_ids(page: str) -> list[str]:
    links = [str(link["href"]) for link in Page(page).find_all("a")]
    return [link.removeprefix("/jobs/") for link in links if link.startswith("/jobs/")]


def find_link(page: str, title: str) -> str | None:
    before, found, _ = page.partition(f">{title}</a>")
    return unescape(before.rpartition('href="')[2].rpartition('"')[0]) if found else None


@pytest.fixture
def jobs(services: Services) -> dict[str, str]:
    """The ids of some jobs, keyed by a name for the test; the oldest job is first."""
    labels = {"project": "thesis"}
    jobs = {
        "running": submit(services, labels=labels),
        "gpu": submit(services, device="gpu"),
        "music": submit(services, kind="musicgen", labels=labels | {"a&b": "c=d e"}),
        "cancelled": submit(services, device="cpu"),
    }
    start_job(services, jobs["running"])
    transitions.cancel(services.database, jobs["cancelled"])
    return jobs


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["cancelled", "music", "gpu", "running"]),
        ("state=&kind=&device=&label=", ["cancelled", "music", "gpu", "running"]),
        ("state=running", ["running"]),
        ("state=queued&kind=knn", ["gpu"]),
        ("kind=musicgen", ["music"]),
        ("device=gpu", ["gpu"]),
        ("label=project%3Dthesis", ["music", "running"]),
        ("label=a%26b%3Dc%3Dd+e", ["music"]),
        ("label=project%3Dthes", []),
        ("label=project%3D", []),
        ("state=queued&state=running", ["music", "gpu", "running"]),
    ],
)
def test_filter_shows_the_matching_jobs(
    client: FlaskClient, jobs: dict[str, str], query: str, names: list[str]
) -> None:
    response = client.get(f"/jobs?{query}")
    assert response.status_code == 200
    assert list_ids(response.text) == [jobs[name] for name in names]
    assert ("No jobs match these filters." in response.text) == (not names)


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("label=thesis", "label", "label: must have the form NAME=VALUE"),
        ("label=%3Dthesis", "label", "label: must have the form NAME=VALUE"),
        ("state=lost&label=project%3Dthesis", "state", "state: "),
        ("cursor=mine", None, "cursor: is not a cursor"),
        ("colour=red", None, "colour: "),
        ("label=a%3Db&label=c%3Dd", "label", "label: may be given only once"),
    ],
)
def test_invalid_filter_is_reported_at_its_field(
    client: FlaskClient, query: str, field: str | None, words: str
) -> None:
    response = client.get(f"/jobs?{query}")
    assert response.status_code == 422
    assert words in response.text
    elements = Page(response.text)
    invalid = [one["id"] for tag in ("select", "input") for one in elements.find_all(tag) if "aria-invalid" in one]
    assert invalid == ([field] if field else [])
    fields = {str(one.get("name")): one.get("value") for one in elements.find_all("input")}
    assert quote(str(fields["label"])) in query or not fields["label"]


def test_pages_keep_the_filter_and_link_to_the_newest_jobs(client: FlaskClient, services: Services) -> None:
    ids = [submit(services, labels={"a": "b c"}) for _ in range(5)]
    submit(services)
    page = client.get("/jobs?label=a%3Db+c&limit=2&state=queued").text
    assert list_ids(page) == ids[:2:-1]
    assert find_link(page, "Newest jobs") is None
    pages = [page]
    while (older := find_link(pages[-1], "Older jobs")) is not None:
        pages.append(client.get(older).text)
    assert [list_ids(page) for page in pages] == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    newest = find_link(pages[-1], "Newest jobs")
    assert newest is not None
    assert list_ids(client.get(newest).text) == ids[:2:-1]
    assert 'value="a=b c"' in pages[-1]


def test_filter_with_two_states_shows_both_as_chosen(client: FlaskClient, services: Services) -> None:
    ids = [submit(services) for _ in range(3)]
    start_job(services, ids[0])
    page = client.get("/jobs?state=queued&state=running&limit=2").text
    (states,) = [one for one in Page(page).find_all("select") if one["id"] == "state"]
    assert "multiple" in states
    assert [one for one in Page(page).find_all("option") if "selected" in one] == [{"selected": None}] * 2
    older = find_link(page, "Older jobs")
    assert older is not None
    assert list_ids(client.get(older).text) == ids[:1]


def test_buttons_return_to_the_filtered_list(client: FlaskClient, services: Services) -> None:
    job_id = submit(services, labels={"a": "b&c"})
    address = "/jobs?label=a%3Db%26c&state="
    for action in ("cancel", "retry"):
        response = send_form(client, address, f"/jobs/{job_id}/{action}")
        assert (response.status_code, response.headers["Location"]) == (303, address)
    again, first = list_ids(client.get(address).text)
    assert first == job_id
    with services.database.reading() as session:
        assert queries.get_job(session, again).retry_of == job_id
    assert send_form(client, "/jobs", f"/jobs/{again}/cancel").headers["Location"] == "/jobs"


@pytest.mark.parametrize("query", ["cursor=x&endpoint=y", "limit=0&_scheme=z", "state=nonsense&_external=1"])
def test_query_parameter_that_has_the_name_of_a_flask_argument_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/jobs?{query}").status_code == 422
