"""What is done with a sample on a music job's page: downloaded, continued, and played again."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from flask.testing import FlaskClient

from shared.database import queries
from shared.database.tables import Job
from shared.ids import make_id
from shared.kinds.musicgen.audio_encoding import encode
from shared.kinds.musicgen.parameters import Format
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.support.disks import path_on_disk
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import MUSIC, make_sample, succeed

FRAMES = 40_000
FRAME_OF_MP3 = 1_152
LONG_PROMPT = "ä" * 4_000
HTML = {"Accept": "text/html"}
Play = Callable[..., str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_private_webhooks": True})


@pytest.fixture
def play(services: Services) -> Play:
    """Make a job that has played one sample."""

    def make(
        stored_as: Format = Format.WAV, channels: int = 1, rate_hz: int = 32_000, prompt: str | None = None, **body: Any
    ) -> str:
        prompts = [prompt] if prompt else []
        params = {"model": "mindjobs/tiny", "duration_s": 1, "prompts": prompts} | body.pop("params", {})
        job_id = submit.submit_job(services, {"kind": "musicgen", "params": params, **body})[0].id
        audio = np.stack([np.sin(np.arange(FRAMES) / (20 + channel)) / 2 for channel in range(channels)])
        content, media_type = encode(audio.astype(np.float32), rate_hz, stored_as)
        name = f"audio-0.{stored_as}"
        result = MUSIC | {"samples": [make_sample(0, audio=name, prompt=prompt)]}
        succeed(services, job_id, result, {name: (media_type, content)})
        return job_id

    return make


def read_job(services: Services, job_id: str) -> Job:
    with services.database.reading() as session:
        return queries.get_job(session, job_id)


@pytest.mark.parametrize(("stored_as", "channels"), list(itertools.product(Format, (1, 2))))
def test_a_sample_is_downloaded_in_each_format(
    client: FlaskClient, play: Play, stored_as: Format, channels: int
) -> None:
    job_id = play(stored_as, channels)
    for wanted in Format:
        with client.get(f"/jobs/{job_id}/samples/0.{wanted}", follow_redirects=True, buffered=True) as answer:
            assert answer.status_code == 200
            assert f"audio-0.{wanted}" in answer.headers["Content-Disposition"]
            assert answer.headers["Content-Disposition"].startswith("attachment")
            with soundfile.SoundFile(io.BytesIO(answer.data)) as file:
                assert (file.format, file.samplerate, file.channels) == (wanted.upper(), 32_000, channels)
                audio = file.read()
        within = FRAME_OF_MP3 if Format.MP3 in {stored_as, wanted} else 0
        assert abs(len(audio) - FRAMES) <= within
        assert np.abs(audio).max() == pytest.approx(0.5, abs=0.05)


def test_a_format_without_the_rate_says_what_to_do(client: FlaskClient, play: Play) -> None:
    job_id = play(rate_hz=8_001)
    answer = client.get(f"/jobs/{job_id}/samples/0.mp3", headers=HTML)
    assert answer.status_code == 422
    assert "8001 Hz, which mp3 files cannot have; take wav instead" in answer.text
    assert 'href="/jobs"' in answer.text
    assert client.get(f"/jobs/{job_id}/samples/0.flac").status_code == 200


def test_what_is_not_there_leads_on(client: FlaskClient, services: Services, play: Play) -> None:
    job_id = play()
    knn_id = submit.submit_job(services, {"kind": "knn"})[0].id
    for address in (
        f"/jobs/{job_id}/samples/1.wav",
        f"/jobs/{job_id}/samples/0.aiff",
        f"/jobs/{knn_id}/samples/0.wav",
        f"/jobs/{make_id()}/samples/0.wav",
    ):
        answer = client.get(address, headers=HTML)
        assert answer.status_code == 404
        assert 'href="/jobs"' in answer.text


def test_a_sample_whose_file_is_gone_says_how_to_get_it(client: FlaskClient, services: Services, play: Play) -> None:
    job_id = play()
    page = Page(client.get(f"/jobs/{job_id}").text)
    (file,) = services.settings.home.rglob("audio-0.wav")
    file.unlink()
    token = page.find_form(f"/jobs/{job_id}/samples/0/continue").fields
    for answer in (
        client.get(f"/jobs/{job_id}/samples/0.ogg", headers=HTML),
        client.post(f"/jobs/{job_id}/samples/0/continue", headers=HTML, data=token),
    ):
        assert answer.status_code == 404
        assert "is gone; retry the job to make it anew" in answer.text
        assert 'href="/jobs"' in answer.text


def test_a_sample_is_continued_from_the_form(client: FlaskClient, services: Services, play: Play) -> None:
    job_id = play(prompt=LONG_PROMPT)
    answer = send_form(client, f"/jobs/{job_id}", f"/jobs/{job_id}/samples/0/continue")
    assert answer.status_code == 303
    assert len(answer.headers["Location"]) < 500  # servers take no address that could hold every prompt
    page = client.get(answer.headers["Location"]).text
    assert "audio-0.wav, already here" in page
    sent = Page(page).find_form("/musicgen").fields
    assert (sent["prompts"], sent["model"]) == (LONG_PROMPT, "mindjobs/tiny")
    submitted = client.post("/musicgen", data=sent | {"duration_s": "2"})
    assert submitted.status_code == 303, submitted.text
    params = read_job(services, submitted.headers["Location"].rpartition("/")[2]).params
    assert [clip["upload"] for clip in params["audio_prompts"]] == [sent["upload"]]
    with services.database.reading() as session:
        upload = queries.find_uploads(session, [sent["upload"]])[sent["upload"]]
    (original,) = services.settings.home.rglob("audio-0.wav")
    assert path_on_disk(services.files, upload.key).read_bytes() == original.read_bytes()


@pytest.mark.parametrize(("button", "seed"), [({"new_seed": "1"}, None), ({}, 7)])
def test_a_job_is_played_again(
    client: FlaskClient, services: Services, play: Play, button: dict[str, str], seed: int | None
) -> None:
    labels, webhook = {"project": "thesis"}, {"url": "http://127.0.0.1:9/", "events": ["failed"]}
    job_id = play(prompt="a waltz", labels=labels, webhook=webhook, params={"seed": 7, "top_k": 11})
    answer = send_form(client, f"/jobs/{job_id}", f"/jobs/{job_id}/retry", **button)
    again = read_job(services, answer.headers["Location"].rpartition("/")[2])
    assert again.params == read_job(services, job_id).params | {"seed": seed}
    assert (again.params["top_k"], again.retry_of, again.labels) == (11, job_id, labels)
    assert again.webhook == webhook
