"""The structure of every page: a title, one main heading, landmarks, and a label for each field."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.database import transitions
from shared.database.connection import now
from shared.database.tables import Worker
from shared.jobs import CANCELLED, Kind
from shared.services import Services
from shared.submission import submit
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import start_job

ADDRESSES = ("/", "/knn", "/musicgen", "/jobs", "/jobs?label=oops", "/sign-in", "/nothing", "/api/v1/docs")


def find_unlabelled(page: Page) -> list[dict[str, Any]]:
    """Return the fields that have no label."""
    labelled = {label.get("for") for label in page.find_all("label")}
    fields = [field for tag in ("input", "select", "textarea") for field in page.find_all(tag)]
    return [field for field in fields if field.get("type") != "hidden" and field.get("id") not in labelled]


def check_outline(text: str) -> None:
    page = Page(text)
    for tag in ("title", "h1", "main", "header", "nav"):
        assert len(page.find_all(tag)) == 1, tag
    assert page.find_all("html") == [{"lang": "en"}]
    assert find_unlabelled(page) == []
    ids = [found["id"] for tag in page.tags for found in page.find_all(tag) if "id" in found]
    assert len(ids) == len(set(ids))
    named = {word for tag in page.tags for found in page.find_all(tag) for word in _list_references(found)}
    assert named <= set(ids)
    assert all("scope" in cell for cell in page.find_all("th"))
    assert all(image.get("alt") for image in page.find_all("img"))


def _list_references(found: dict[str, str | None]) -> list[str]:
    return [
        word
        for name in ("for", "list", "aria-describedby", "aria-labelledby")
        for word in (found.get(name) or "").split()
    ]


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_has_an_outline(client: FlaskClient, address: str) -> None:
    check_outline(client.get(address, headers={"Accept": "text/html"}).text)


@pytest.mark.parametrize("kind", [*Kind])
def test_page_of_a_job_has_an_outline_in_each_state(client: FlaskClient, services: Services, kind: Kind) -> None:
    job_id = submit.submit_job(services, {"kind": kind})[0].id
    check_outline(client.get(f"/jobs/{job_id}").text)
    lease = start_job(services, job_id)
    check_outline(client.get(f"/jobs/{job_id}").text)
    assert transitions.finish(services.database, lease, CANCELLED)
    check_outline(client.get(f"/jobs/{job_id}").text)
    check_outline(client.get("/jobs").text)


@pytest.mark.parametrize("address", [f"/{kind}" for kind in Kind])
def test_form_with_messages_has_an_outline(client: FlaskClient, address: str) -> None:
    response = send_form(client, address, device="abacus")
    assert response.status_code == 422
    check_outline(response.text)


def test_home_page_shows_the_load_of_the_devices(client: FlaskClient, services: Services) -> None:
    page = client.get("/").text
    assert page.count("<td>none</td>") == 3
    worker = Worker(
        name="box:1",
        device="cpu",
        device_index=0,
        kinds=["knn"],
        engines={"knn": "mindspore"},
        started_at=now(),
        beat_at=now(),
        beat_interval_s=60.0,
    )
    with services.database.writing() as session:
        session.add(worker)
    first, *_ = [submit.submit_job(services, {"kind": "knn", "device": "cpu"})[0].id for _ in range(3)]
    start_job(services, first)
    page = " ".join(client.get("/").text.split())
    assert page.count("<td>none</td>") == 2
    row = (
        '<th scope="row">cpu</th><td>1</td> <td class="d-none d-sm-table-cell">knn: mindspore</td> <td>1</td><td>2</td>'
    )
    assert row in page
