"""A job's page that is updated while a user works with it."""

from playwright.sync_api import Page, expect

from shared.settings import Settings
from tests.browser.conftest import TIMEOUT_MS
from tests.support.instances import call
from tests.support.processes import ServiceProcess

COUNT_ANNOUNCEMENTS = """() => {
    window.announcements = 0;
    const observer = new MutationObserver(() => { window.announcements += 1; });
    observer.observe(document.getElementById("state"), { childList: true, subtree: true, characterData: true });
}"""
HAS_MOVED = "before => !document.querySelector('progress') || document.querySelector('progress').value > before"


def test_focus_stays_while_the_progress_changes(page: Page, instance: tuple[Settings, ServiceProcess]) -> None:
    prompts = [f"song {number}" for number in range(8)]
    params = {"model": "mindjobs/tiny", "prompts": prompts, "duration_s": 30}
    job = call(instance[0], "/api/v1/jobs", {"kind": "musicgen", "params": params})
    page.goto(f"/jobs/{job['id']}")
    status, cancel, bar = (
        page.get_by_role("status"),
        page.get_by_role("button", name="Cancel"),
        page.locator("progress"),
    )
    expect(bar).to_be_visible()
    cancel.focus()
    page.evaluate(COUNT_ANNOUNCEMENTS)
    for _ in range(2):
        page.wait_for_function(HAS_MOVED, arg=bar.evaluate("bar => bar.value"), timeout=TIMEOUT_MS)
        expect(bar).to_be_visible()
        expect(cancel).to_be_focused()
    assert page.evaluate("window.announcements") == 0
    expect(status).to_have_text("succeeded")
    expect(cancel).to_have_count(0)
    assert page.evaluate("window.announcements") > 0
    expect(page.get_by_role("main")).to_be_focused()
