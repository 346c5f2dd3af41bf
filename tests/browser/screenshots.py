"""Takes screenshots of every page, light and dark, for a desktop and a phone: ``make screenshots``.

The screenshots are written to ``docs/screenshots``, with few colours so that the files are small.
"""

import io
import itertools
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.browser.chromium import find_chromium, launch_chromium
from tests.support.instances import call, make_settings, run_job, wait_for_ready
from tests.support.processes import ServiceProcess

FOLDER: Final = ROOT / "docs" / "screenshots"
WIDTHS: Final = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
MAX_HEIGHT: Final = 2400
COLOURS: Final = 256
MUSIC: Final = {"model": "mindjobs/tiny", "prompts": ["80s pop track with bassy drums and synth"], "duration_s": 8}
LONG: Final = {**MUSIC, "prompts": [f"variation {number}" for number in range(16)], "duration_s": 40}

HIDE_HOST: Final = """(host) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(host, "host");
}"""


def make_jobs(settings: Settings) -> dict[str, str]:
    """Submit the jobs that the screenshots show; return the addresses of the pages, keyed by the name of the page."""
    jobs: dict[str, Any] = {
        "neighbours": {"kind": "knn", "params": {"k": [1, 3, 5, 9, 15], "normalise": "zscore"}},
        "music": {"kind": "musicgen", "params": MUSIC, "labels": {"project": "demo"}},
        "failed": {"kind": "musicgen", "params": {"model": "nobody/nothing"}},
    }
    ended = {name: run_job(settings, body) for name, body in jobs.items()}
    running = call(settings, "/api/v1/jobs", {"kind": "musicgen", "params": LONG})
    call(settings, "/api/v1/jobs", {"kind": "knn", "device": "gpu", "labels": {"project": "demo"}})
    return {name: f"/jobs/{job['id']}" for name, job in {**ended, "running": running}.items()}


@contextmanager
def run_instance() -> Iterator[Settings]:
    """Run an instance while the block runs."""
    with (
        tempfile.TemporaryDirectory(prefix="mj-shots-") as folder,
        make_settings(models_allowed="known,nobody/nothing") as settings,
    ):
        process = ServiceProcess("shared.instance.up", settings=settings, log=Path(folder) / "up.log")
        try:
            wait_for_ready(process, settings)
            yield settings
        finally:
            process.close()


def take_screenshots(
    browser: Browser, address: str, pages: dict[str, str], scheme: Literal["light", "dark"], width: str
) -> None:
    """Take a screenshot of each page."""
    columns, rows = WIDTHS[width]
    context = browser.new_context(
        base_url=address,
        color_scheme=scheme,
        viewport={"width": columns, "height": rows},
    )
    page = context.new_page()
    for name, path in pages.items():
        page.goto(path)
        page.wait_for_load_state("load")
        height = min(page.evaluate("document.documentElement.scrollHeight"), MAX_HEIGHT)
        page.set_viewport_size({"width": columns, "height": max(rows, height)})
        page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => null)))")
        page.evaluate(HIDE_HOST, socket.gethostname())
        shot = page.screenshot(clip={"x": 0, "y": 0, "width": columns, "height": height}, animations="disabled")
        picture = Image.open(io.BytesIO(shot))
        page.set_viewport_size({"width": columns, "height": rows})
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(FOLDER / f"{name}-{scheme}-{width}.png", optimize=True)
    context.close()


def main() -> None:
    """Take all screenshots."""
    if find_chromium() is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with run_instance() as settings, sync_playwright() as playwright, launch_chromium(playwright) as browser:
        pages = {
            "form-neighbours": "/knn",
            "form-music": "/musicgen",
            "sign-in": "/sign-in",
            "missing": "/nothing",
            **make_jobs(settings),
            "home": "/",
            "jobs": "/jobs",
            "api": "/api/v1/docs",
        }
        for scheme, width in itertools.product(SCHEMES, WIDTHS):
            take_screenshots(browser, f"http://{settings.authority}", pages, scheme, width)


if __name__ == "__main__":
    main()
