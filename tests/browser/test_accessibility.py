"""Every page, light and dark, checked by axe-core."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from shared.settings import Settings
from tests.browser.conftest import Visit
from tests.support.instances import call, run_job
from tests.support.processes import ServiceProcess

SERIOUS = {"serious", "critical"}
TINY = {"model": "mindjobs/tiny", "duration_s": 1}
JOBS: dict[str, dict[str, Any]] = {
    "neighbours": {"kind": "knn", "params": {"k": [1, 5]}},
    "music": {"kind": "musicgen", "params": {**TINY, "prompts": ["a waltz"]}, "labels": {"project": "thesis"}},
    "failed": {"kind": "musicgen", "params": {"model": "nobody/nothing"}},
}


@pytest.fixture(scope="module")
def addresses(instance: tuple[Settings, ServiceProcess]) -> dict[str, str]:
    """The addresses of all pages, including the pages of four jobs, keyed by name."""
    jobs = {name: run_job(instance[0], body) for name, body in JOBS.items()}
    queued = call(instance[0], "/api/v1/jobs", {"kind": "knn", "device": "gpu"})
    pages = ["/", "/knn", "/musicgen", "/jobs", "/sign-in", "/nothing", "/api/v1/docs", "/jobs?label=oops"]
    return {page: page for page in pages} | {
        **{name: f"/jobs/{job['id']}" for name, job in jobs.items()},
        "queued": f"/jobs/{queued['id']}",
    }


def find_violations(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['impact']} {violation['id']}: {node['html']} {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_serious_accessibility_violations(
    browser: Browser, instance: tuple[Settings, ServiceProcess], addresses: dict[str, str], scheme: str
) -> None:
    visit = Visit(browser, f"http://{instance[0].authority}", color_scheme=scheme)
    violations = {}
    for name, address in addresses.items():
        visit.page.goto(address)
        expect(visit.page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        for details in visit.page.locator("details").all():
            details.evaluate("element => element.open = true")
        violations[name] = find_violations(visit.page)
    visit.close()
    assert {name: found for name, found in violations.items() if found} == {}


def test_form_is_filled_in_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/knn")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("k, the number of neighbours").focus()
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"^Accuracy \d"))).to_be_visible()
