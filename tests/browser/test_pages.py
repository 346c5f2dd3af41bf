"""What users do on the pages."""

import re
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from shared.settings import Settings
from tests.browser.conftest import Visit
from tests.support.instances import run_job
from tests.support.processes import ServiceProcess

Instance = tuple[Settings, ServiceProcess]

TABLE = "species,length,width\n" + "".join(f"{'ab'[row % 2]},{row % 2 + row / 100},{row}\n" for row in range(20))


def mark_page(page: Page) -> None:
    """Set a variable that a reload of the page would remove."""
    page.evaluate("window.notReloaded = true")


def was_reloaded(page: Page) -> bool:
    return page.evaluate("window.notReloaded") is not True


def find_accuracy(page: Page) -> Locator:
    return page.get_by_text(re.compile(r"^Accuracy \d"))


def start_music(page: Page, prompts: str, seconds: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="Generate music").click()
    page.get_by_label("Model").select_option("mindjobs/tiny")
    page.get_by_label("Prompts, one per line").fill(prompts)
    page.get_by_label("Duration in seconds").fill(seconds)
    page.get_by_role("button", name="Generate").click()


def test_wine_data_set_is_evaluated(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Evaluate k nearest neighbours").click()
    page.locator("summary", has_text="First rows").click()
    expect(page.get_by_role("columnheader", name="Proline")).to_be_visible()
    page.get_by_label("k, the number of neighbours").fill("1, 5, 15")
    page.get_by_role("button", name="Evaluate").click()
    mark_page(page)
    expect(find_accuracy(page)).to_be_visible()
    assert not was_reloaded(page)
    accuracy = re.search(r"Accuracy (\S+) % with k = \d+\.", find_accuracy(page).inner_text())
    assert accuracy is not None
    assert 60 < float(accuracy[1]) < 90
    expect(page.get_by_role("status")).to_have_text("succeeded")
    expect(page.get_by_role("region", name="Confusion matrix").get_by_role("row")).to_have_count(4)
    expect(page.get_by_role("region", name="Scores by k").get_by_role("row")).to_have_count(4)
    expect(page.get_by_role("region", name="Predictions").get_by_role("row")).to_have_count(51)
    pictures = page.locator("img")
    expect(pictures).to_have_count(3)
    for index in range(3):
        assert pictures.nth(index).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    with page.expect_download() as download:
        page.get_by_role("link", name="predictions.csv").first.click()
    assert Path(download.value.path()).read_text().startswith("index,label,prediction")


def test_fields_of_unselected_choices_are_hidden(page: Page) -> None:
    page.goto("/knn")
    p, folds = page.get_by_label("p of the Minkowski distance"), page.get_by_label("Folds")
    expect(p).to_be_hidden()
    expect(folds).to_be_hidden()
    page.get_by_label("Distance", exact=True).select_option("minkowski")
    page.get_by_label("Method").select_option("kfold")
    expect(p).to_be_visible()
    expect(folds).to_be_visible()
    expect(page.get_by_label("Training rows")).to_be_hidden()


def test_table_is_previewed_and_messages_are_at_their_fields(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    (tmp_path / "mine.csv").write_text(TABLE)
    page.goto("/knn")
    page.get_by_label("Table", exact=True).set_input_files(tmp_path / "mine.csv")
    columns = page.get_by_role("region", name="Columns")
    expect(columns.get_by_role("rowheader")).to_have_text(["species", "length", "width"])
    expect(page.get_by_label("Column to predict")).to_have_value("0")
    expect(page.get_by_label("Use length")).to_be_checked()
    expect(page.get_by_label("Use width")).not_to_be_checked()  # it numbers the rows
    page.get_by_label("Use width").check()
    page.get_by_label("Method").select_option("loo")
    number = page.get_by_label("k, the number of neighbours")
    number.fill("50")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.get_by_role("alert")).to_contain_text("k, the number of neighbours")
    visit.expect_status(422)
    expect(number).to_have_value("50")
    expect(number).to_have_accessible_description(re.compile("19"))
    expect(page.get_by_label("Use width")).to_be_checked()
    number.fill("3")
    number.press("Enter")
    expect(find_accuracy(page)).to_be_visible()


def test_music_is_generated_played_downloaded_and_continued(page: Page) -> None:
    start_music(page, "\n".join(f"song {number}" for number in range(8)), "30")
    mark_page(page)
    expect(page.get_by_role("status")).to_have_text("succeeded")
    assert not was_reloaded(page)
    player = page.locator("audio").first
    played_s = player.evaluate(
        """player => new Promise((done) => {
            player.addEventListener("timeupdate", () => player.currentTime > 0.2 && done(player.currentTime));
            player.play();
        })"""
    )
    assert played_s > 0.2
    for ending, magic in (("wav", b"RIFF"), ("flac", b"fLaC"), ("ogg", b"OggS"), ("mp3", b"")):
        with page.expect_download() as download:
            page.get_by_role("link", name=ending, exact=True).first.click()
        assert re.fullmatch(rf"song 0 \d+\.{ending}", download.value.suggested_filename)
        assert Path(download.value.path()).read_bytes().startswith(magic)
    page.get_by_role("button", name="Continue this sample").first.click()
    expect(page.get_by_label("Prompts, one per line")).to_have_value("song 0")
    expect(page.get_by_label(re.compile("audio-0.wav, uploaded"))).to_be_checked()
    page.get_by_label("Start of the clip, in seconds").fill("1")
    page.get_by_label("End of the clip, in seconds").fill("2")
    page.get_by_label("Duration in seconds").fill("1")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("status")).to_have_text("succeeded")
    seed = page.locator("dt:text-is('Seed') + dd").inner_text()
    page.get_by_role("button", name="Another version").click()
    expect(page.get_by_role("status")).to_have_text("succeeded")
    assert page.locator("dt:text-is('Seed') + dd").inner_text() != seed


def test_end_of_a_clip_is_set_from_the_position_of_the_player(page: Page, instance: Instance, tmp_path: Path) -> None:
    job = run_job(instance[0], {"kind": "musicgen", "params": {"model": "mindjobs/tiny", "duration_s": 3}})
    page.goto(f"/jobs/{job['id']}")
    with page.expect_download() as download:
        page.get_by_role("link", name="wav", exact=True).click()
    download.value.save_as(tmp_path / "clip.wav")
    page.goto("/musicgen")
    page.get_by_label("Audio files").set_input_files(tmp_path / "clip.wav")
    player = page.get_by_label("clip.wav")
    player.evaluate("player => new Promise(done => { player.onseeked = done; player.currentTime = 1.5; })")
    page.get_by_role("button", name="Set end").click()
    expect(page.get_by_label("End of the clip, in seconds")).to_have_value("1.50")


def test_running_job_is_cancelled_and_run_again(page: Page) -> None:
    start_music(page, "\n".join(f"song {number}" for number in range(60)), "40")
    expect(page.get_by_role("status")).to_contain_text("running")
    address = page.url
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_have_text("cancelled")
    expect(page.get_by_text("A client cancelled this job.")).to_be_visible()
    page.get_by_role("button", name="Run again", exact=True).click()
    page.wait_for_url(lambda url: url != address)
    expect(page.get_by_role("link", name=address.rpartition("/")[2])).to_be_visible()
    again = page.url
    page.goto("/jobs?kind=musicgen")
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url("**/jobs?kind=musicgen")
    page.goto(again)
    expect(page.get_by_role("status")).to_have_text("cancelled")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/jobs")
    expect(page.get_by_text(again.rpartition("/")[2])).to_have_count(0)


def test_page_is_updated_after_the_web_server_was_killed(browser: Browser, instance: Instance) -> None:
    settings, process = instance
    visit = Visit(browser, f"http://{settings.authority}")  # errors are expected while no server responds
    page = visit.page
    start_music(page, "\n".join(f"song {number}" for number in range(12)), "30")
    mark_page(page)
    expect(page.locator("progress")).to_be_visible()
    for child in process.list_children():
        if any("gunicorn" in word for word in child.cmdline()):
            child.send_signal(signal.SIGKILL)
    expect(page.get_by_role("status")).to_have_text("succeeded")
    assert not was_reloaded(page)
    visit.close()


def test_pages_work_without_javascript(browser: Browser, instance: Instance) -> None:
    visit = Visit(browser, f"http://{instance[0].authority}", java_script_enabled=False)
    page = visit.page
    page.goto("/")
    page.get_by_role("link", name="Evaluate k nearest neighbours").click()
    page.get_by_role("button", name="Evaluate").click()
    expect(find_accuracy(page)).to_be_visible()
    visit.close()
    assert visit.errors == []


@pytest.mark.parametrize("address", ["/nothing", "/jobs/01a20000-0000-7000-8000-000000000000"])
def test_response_to_an_unknown_address_links_to_the_jobs(visit: Visit, address: str) -> None:
    response = visit.page.goto(address)
    visit.expect_status(404)
    assert response is not None
    assert response.status == 404
    visit.page.get_by_role("link", name="All jobs").click()
    expect(visit.page.get_by_role("heading", name="Jobs")).to_be_visible()
