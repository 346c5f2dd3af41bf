"""Pages under a path of a proxy with HTTPS: the browser requests nothing outside it, and the page of a job is live."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from shared.api_keys import create_key
from shared.database import transitions
from shared.jobs import Outcome, Progress, State
from shared.services import Services
from tests.browser.conftest import Visit
from tests.support.deployment import run_nginx
from tests.support.instances import make_settings, run_web
from tests.support.job_outcomes import MUSIC, end, start_job
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S

HOST = "jobs.localhost"
"""Browsers look up no name below ``localhost``: such a name leads to this machine."""


def test_person_submits_a_job_and_watches_it_under_a_prefix(
    browser: Browser, redis_server: RedisServer, tmp_path: Path
) -> None:
    own = {"trusted_proxies": 1, "trusted_hosts": HOST, "redis_url": redis_server.url}
    with (
        make_settings(**own) as settings,
        run_web(settings, tmp_path / "web.log"),
        run_nginx(tmp_path, settings.authority, "/mindjobs", HOST) as front,
    ):
        services = Services.open(settings)
        key = create_key(services.database, "ada")
        visit = Visit(browser, front.address, ignore_https_errors=True)
        page = visit.page
        page.goto(f"{front.address}/musicgen")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{front.address}/musicgen")
        page.get_by_label("Prompts").fill("rock")
        page.get_by_role("button", name="Generate").click()
        page.wait_for_url(f"{front.address}/jobs/*")
        status = page.get_by_role("status")
        expect(status).to_have_text("queued")
        lease = start_job(services, page.url.rpartition("/")[2])
        progress = Progress("generating", 3, 9, "tokens")
        assert transitions.heartbeat(services.database, lease, progress, DEADLINE_S) is not None
        expect(page.locator("progress")).to_have_js_property("value", 3)
        end(services, lease, Outcome(State.SUCCEEDED, MUSIC | {"samples": []}), {})
        expect(status).to_have_text("succeeded")
        page.get_by_role("link", name="API").click()
        expect(page.get_by_text(front.address, exact=True)).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{front.address}/sign-in")
        visit.close()
        services.close()
        assert visit.errors == []
