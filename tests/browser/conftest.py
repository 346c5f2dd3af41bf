"""An instance for all tests here, and a browser that must find nothing to complain of."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from shared.settings import Settings
from tests.browser.chromium import find_chromium, launch_chromium
from tests.conftest import SHORT_INTERVALS
from tests.support.instances import make_settings, wait_for_ready
from tests.support.processes import ServiceProcess

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these tests in one process: they share an instance and a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright, launch_chromium(playwright) as browser:
        yield browser


@pytest.fixture(scope="package")
def instance(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, ServiceProcess]]:
    """A complete instance; not started where there is no browser for it."""
    assert browser
    with make_settings(**SHORT_INTERVALS) as settings:
        process = ServiceProcess("shared.instance.up", settings=settings, log=tmp_path_factory.mktemp("up") / "up.log")
        try:
            wait_for_ready(process, settings)
            yield settings, process
        finally:
            process.close()


class Visit:
    """A page of one person's browser, and all that it complains of.

    Parameters
    ----------
    address
        Of the service: everything else is another host.
    """

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self._context = browser.new_context(base_url=address, **context)
        self._context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self._address = address
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._hear)
        self._context.on("request", self._watch)

    def _hear(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.complaints.append(f"console: {line.text}")

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((self._address, "blob:", "data:")):
            self.complaints.append(f"another host: {request.url}")

    def forgive(self, status: int) -> None:
        """Take back the browser's own complaint of an answer that is as it should be."""
        self.complaints.remove(next(complaint for complaint in self.complaints if f"status of {status} " in complaint))

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def visit(browser: Browser, instance: tuple[Settings, ServiceProcess]) -> Iterator[Visit]:
    """Visit the instance; nothing may have been complained of in the end."""
    visit = Visit(browser, f"http://{instance[0].authority}")
    yield visit
    visit.close()
    assert visit.complaints == []


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page
