"""An instance that all browser tests share, and a browser that must report no errors."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from shared.services import Services
from shared.settings import Settings
from tests.browser.chromium import find_chromium, launch_chromium
from tests.conftest import SHORT_INTERVALS
from tests.support.instances import make_settings, run_web, wait_for_ready
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S

TIMEOUT_MS = DEADLINE_S * 1_000
expect.set_options(timeout=TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in one process, since they share an instance and a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed: apt-get install chromium")
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright, launch_chromium(playwright) as browser:
        yield browser


@pytest.fixture(scope="package")
def instance(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, ServiceProcess]]:
    """A complete instance. The fixture uses the browser, so that no instance is started if Chromium is missing."""
    assert browser
    with make_settings(**SHORT_INTERVALS, models_allowed="known,nobody/nothing") as settings:
        process = ServiceProcess("shared.instance.up", settings=settings, log=tmp_path_factory.mktemp("up") / "up.log")
        try:
            wait_for_ready(process, settings)
            yield settings, process
        finally:
            process.close()


@pytest.fixture
def web_services(browser: Browser, redis_server: RedisServer, tmp_path: Path) -> Iterator[Services]:
    """The services of a web process. No worker runs, so that only the test changes the jobs."""
    assert browser
    with make_settings(redis_url=redis_server.url) as settings, run_web(settings, tmp_path / "web.log"):
        services = Services.open(settings)
        yield services
        services.close()


class Visit:
    """A page in a browser context of its own, and the errors that the browser reports.

    Parameters
    ----------
    address
        The address of the service; a request to any other address is an error.
    """

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self._context = browser.new_context(base_url=address, **context)
        self._context.set_default_timeout(TIMEOUT_MS)
        self.page: Page = self._context.new_page()
        self.errors: list[str] = []
        self._address = address
        self.page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        self.page.on("console", self._record_console)
        self._context.on("request", self._check_host)

    def _record_console(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.errors.append(f"console: {line.text}")

    def _check_host(self, request: Request) -> None:
        if not request.url.startswith((self._address, "blob:", "data:")):
            self.errors.append(f"another host: {request.url}")

    def expect_status(self, status: int) -> None:
        """Remove the error that the browser reports for a response with this status, which the test expects."""
        self.errors.remove(next(error for error in self.errors if f"status of {status} " in error))

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def visit(browser: Browser, instance: tuple[Settings, ServiceProcess]) -> Iterator[Visit]:
    """A visit to the instance; the test fails if the browser reports errors."""
    visit = Visit(browser, f"http://{instance[0].authority}")
    yield visit
    visit.close()
    assert visit.errors == []


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page
