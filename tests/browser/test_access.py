"""Signing in with an API key."""

from http import HTTPStatus

import pytest
from playwright.sync_api import Browser, expect

from shared.api_keys import create_key
from shared.services import Services
from shared.settings import Settings
from tests.browser.conftest import Visit
from tests.support.instances import ask, call
from tests.support.waiting import wait_until


@pytest.fixture
def guarded(web_services: Services) -> tuple[Settings, dict[str, str]]:
    """The settings of a web process, and the API keys of two users, keyed by the name of the user."""
    keys = {name: create_key(web_services.database, name) for name in ("ada", "bob")}
    path = "/api/v1/jobs"
    wait_until(lambda: ask(web_services.settings.port, path) == HTTPStatus.UNAUTHORIZED, "the web to read the keys")
    return web_services.settings, keys


def test_signed_in_user_does_not_see_the_jobs_of_another_user(
    browser: Browser, guarded: tuple[Settings, dict[str, str]]
) -> None:
    settings, keys = guarded
    address = f"http://{settings.authority}"
    jobs = {
        name: call(settings, "/api/v1/jobs", {"kind": "knn"}, Authorization=f"Bearer {key}")["id"]
        for name, key in keys.items()
    }
    visit = Visit(browser, address)
    page = visit.page
    page.goto(f"/jobs/{jobs['ada']}")
    page.get_by_label("API key").fill("mj_nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("API key")).to_have_accessible_description(
        "is not a valid API key of this instance; check it, or ask the operator"
    )
    page.get_by_label("API key").fill(keys["ada"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/jobs/{jobs['ada']}")
    expect(page.get_by_text(jobs["ada"])).to_be_visible()
    response = page.goto(f"/jobs/{jobs['bob']}")
    assert response is not None
    assert response.status == 404
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_text(jobs["ada"])).to_be_visible()
    expect(page.get_by_text(jobs["bob"])).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    page.goto("/jobs")
    expect(page.get_by_label("API key")).to_be_visible()
    visit.close()
    visit.expect_status(401)
    visit.expect_status(404)
    assert visit.errors == []
