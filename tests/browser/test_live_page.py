"""A job's page that is updated while a user works with it."""

from playwright.sync_api import Browser, expect

from shared.database import transitions
from shared.jobs import Outcome, Progress, State
from shared.services import Services
from shared.submission.submit import submit_job
from tests.browser.conftest import Visit
from tests.support.job_outcomes import MUSIC, end, start_job
from tests.support.waiting import DEADLINE_S

COUNT_ANNOUNCEMENTS = """() => {
    window.announcements = 0;
    const observer = new MutationObserver(() => { window.announcements += 1; });
    observer.observe(document.getElementById("state"), { childList: true, subtree: true, characterData: true });
}"""


def test_focus_stays_while_the_progress_changes(browser: Browser, web_services: Services) -> None:
    lease = start_job(web_services, submit_job(web_services, {"kind": "musicgen", "device": "cpu"})[0].id)

    def report(done: int) -> None:
        progress = Progress("generating", done, 9, "tokens")
        assert transitions.heartbeat(web_services.database, lease, progress, DEADLINE_S) is not None

    visit = Visit(browser, f"http://{web_services.settings.authority}")
    page = visit.page
    status, cancel, bar = (
        page.get_by_role("status"),
        page.get_by_role("button", name="Cancel"),
        page.locator("progress"),
    )
    report(1)
    page.goto(f"/jobs/{lease.job_id}")
    expect(bar).to_have_js_property("value", 1)
    cancel.focus()
    page.evaluate(COUNT_ANNOUNCEMENTS)
    for done in (2, 3):
        report(done)
        expect(bar).to_have_js_property("value", done)
        expect(cancel).to_be_focused()
    assert page.evaluate("window.announcements") == 0
    end(web_services, lease, Outcome(State.SUCCEEDED, MUSIC | {"samples": []}), {})
    expect(status).to_have_text("succeeded")
    expect(cancel).to_have_count(0)
    assert page.evaluate("window.announcements") > 0
    expect(page.get_by_role("main")).to_be_focused()
    visit.close()
    assert visit.errors == []
