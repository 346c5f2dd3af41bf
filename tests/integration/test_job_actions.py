"""Actions on the page of a music job: download a sample, continue a sample, and run the job again."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from flask.testing import FlaskClient

from shared.audio.tags import Tags, read_tags
from shared.database import queries
from shared.database.tables import Job
from shared.ids import make_id
from shared.inspection.runner import InspectionRunner
from shared.kinds.musicgen.audio_encoding import encode
from shared.kinds.musicgen.parameters import Format
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.support.disks import path_on_disk
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import MUSIC, make_sample, succeed

FRAMES = 40_000
MP3_FRAME = 1_152
LONG_PROMPT = "ä" * 4_000
TAGS = Tags("一首 🎵", '{"prompt": "a\\nb"}', "mindjobs")
HTML = {"Accept": "text/html"}
MakeJob = Callable[..., str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_private_webhooks": True})


@pytest.fixture
def make_job(services: Services) -> MakeJob:
    """Return a function that makes a music job which has generated one sample."""

    def make(
        stored_as: Format = Format.WAV, channels: int = 1, rate_hz: int = 32_000, prompt: str | None = None, **body: Any
    ) -> str:
        prompts = [prompt] if prompt else []
        params = {"model": "mindjobs/tiny", "duration_s": 1, "prompts": prompts, "format": stored_as}
        params |= body.pop("params", {})
        job_id = submit.submit_job(services, {"kind": "musicgen", "params": params, **body})[0].id
        audio = np.stack([np.sin(np.arange(FRAMES) / (20 + channel)) / 2 for channel in range(channels)])
        content, media_type = encode(audio.astype(np.float32), rate_hz, stored_as, TAGS)
        name = f"audio-0.{stored_as.extension}"
        result = MUSIC | {"samples": [make_sample(0, audio=name, prompt=prompt)]}
        succeed(services, job_id, result, {name: (media_type, content)})
        return job_id

    return make


def read_job(services: Services, job_id: str) -> Job:
    with services.database.reading() as session:
        return queries.get_job(session, job_id)


@pytest.mark.parametrize(("stored_as", "channels"), list(itertools.product(Format, (1, 2))))
def test_sample_is_downloaded_in_each_format(
    client: FlaskClient, make_job: MakeJob, stored_as: Format, channels: int
) -> None:
    job_id = make_job(stored_as, channels)
    for wanted in Format:
        with client.get(f"/jobs/{job_id}/samples/0.{wanted}", follow_redirects=True, buffered=True) as response:
            assert response.status_code == 200
            disposition = response.headers["Content-Disposition"]
            assert disposition == f'attachment; filename="tiny 41.{wanted.extension}"'
            with soundfile.SoundFile(io.BytesIO(response.data)) as file:
                assert (file.format, file.samplerate, file.channels) == (wanted.extension.upper(), 32_000, channels)
                assert (file.subtype == "PCM_16") == (wanted is Format.WAV16)
                audio = file.read()
            tags = read_tags(io.BytesIO(response.data))
            assert (tags.title, tags.comment) == (TAGS.title, TAGS.comment)
            assert tags.software.startswith(TAGS.software)
        tolerance = MP3_FRAME if Format.MP3 in {stored_as, wanted} else 0
        assert abs(len(audio) - FRAMES) <= tolerance
        assert np.abs(audio).max() == pytest.approx(0.5, abs=0.05)


def test_format_that_does_not_support_the_sampling_rate_is_refused(client: FlaskClient, make_job: MakeJob) -> None:
    job_id = make_job(rate_hz=8_001)
    response = client.get(f"/jobs/{job_id}/samples/0.mp3", headers=HTML)
    assert response.status_code == 422
    assert "8001 Hz, which mp3 files do not support. Choose the format wav" in response.text
    assert 'href="/jobs"' in response.text
    assert client.get(f"/jobs/{job_id}/samples/0.flac").status_code == 200


def test_unknown_sample_is_not_found(client: FlaskClient, services: Services, make_job: MakeJob) -> None:
    job_id = make_job()
    knn_id = submit.submit_job(services, {"kind": "knn"})[0].id
    for address in (
        f"/jobs/{job_id}/samples/1.wav",
        f"/jobs/{job_id}/samples/0.aiff",
        f"/jobs/{knn_id}/samples/0.wav",
        f"/jobs/{make_id()}/samples/0.wav",
    ):
        response = client.get(address, headers=HTML)
        assert response.status_code == 404
        assert 'href="/jobs"' in response.text


def test_missing_file_of_a_sample_is_reported_with_the_remedy(
    client: FlaskClient, services: Services, make_job: MakeJob
) -> None:
    job_id = make_job()
    page = Page(client.get(f"/jobs/{job_id}").text)
    (file,) = services.settings.home.rglob("audio-0.wav")
    file.unlink()
    token = page.find_form(f"/jobs/{job_id}/samples/0/continue").fields
    for response in (
        client.get(f"/jobs/{job_id}/samples/0.ogg", headers=HTML),
        client.post(f"/jobs/{job_id}/samples/0/continue", headers=HTML, data=token),
    ):
        assert response.status_code == 404
        assert "no longer exists. Retry the job to produce it again." in response.text
        assert 'href="/jobs"' in response.text


def test_sample_is_continued_with_the_form(client: FlaskClient, services: Services, make_job: MakeJob) -> None:
    job_id = make_job(prompt=LONG_PROMPT)
    response = send_form(client, f"/jobs/{job_id}", f"/jobs/{job_id}/samples/0/continue")
    assert response.status_code == 303
    # The address does not contain the prompt, since servers limit the length of addresses.
    assert len(response.headers["Location"]) < 500
    page = client.get(response.headers["Location"]).text
    assert "audio-0.wav, uploaded" in page
    assert InspectionRunner(services, prepares=False).inspect_next()
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


@pytest.mark.parametrize("button", [{"new_seed": "1"}, {}], ids=["another version", "run again"])
@pytest.mark.parametrize("given", [7, None])
def test_job_is_run_again_with_the_same_or_another_seed(
    client: FlaskClient, services: Services, make_job: MakeJob, button: dict[str, str], given: int | None
) -> None:
    labels, webhook = {"project": "thesis"}, {"url": "http://127.0.0.1:9/", "events": ["failed"]}
    job_id = make_job(prompt="a waltz", labels=labels, webhook=webhook, params={"seed": given, "top_k": 11})
    first = read_job(services, job_id)
    response = send_form(client, f"/jobs/{job_id}", f"/jobs/{job_id}/retry", **button)
    again = read_job(services, response.headers["Location"].rpartition("/")[2])
    assert again.params | {"seed": None} == first.params | {"seed": None}
    assert (again.params["seed"] == first.params["seed"]) == (not button)
    assert (again.params["top_k"], again.retry_of, again.labels) == (11, job_id, labels)
    assert again.webhook == webhook
