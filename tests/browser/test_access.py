"""Signing in with an API key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from shared.api_keys import create_key
from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.settings import Settings
from tests.browser.conftest import Visit
from tests.support.instances import WEB, call, make_settings, wait_for_web
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer


@pytest.fixture
def guarded(redis_server: RedisServer, tmp_path: Path) -> Iterator[tuple[Settings, dict[str, str]]]:
    """A web process with the keys of two users."""
    with make_settings(redis_url=redis_server.url) as settings:
        settings.home.mkdir()
        database = Database(settings.database)
        migrate(database)
        keys = {name: create_key(database, name) for name in ("ada", "bob")}
        database.close()
        web = ServiceProcess(*WEB, settings=settings, log=tmp_path / "web.log")
        try:
            wait_for_web(web, settings)
            yield settings, keys
        finally:
            web.close()


def test_user_who_signs_in_sees_only_their_own_jobs(browser: Browser, guarded: tuple[Settings, dict[str, str]]) -> None:
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
