"""The music form, and the samples on a job's page, as a browser without JavaScript uses them."""

import io
import itertools
import re
import wave
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.database import queries
from shared.kinds.musicgen.catalogue import Availability, GenerationDefaults, ModelCard
from shared.services import Services
from shared.texts import text
from tests.support.html_pages import Page, find_message, send_form
from tests.support.job_outcomes import MUSIC, make_sample, start_job, succeed
from web.kinds.musicgen import form, result

FORM = {"model": "mindjobs/tiny", "duration_s": "1"}
TINY = ModelCard(
    "mindjobs/tiny",
    "Tiny",
    Availability.READY,
    1,
    100_000,
    GenerationDefaults(do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=77, top_p=1.0, max_new_tokens=256),
    "Apache-2.0",
    None,
    text("model-note-random"),
)
SMALL = ModelCard(
    "facebook/musicgen-small",
    "MusicGen small",
    Availability.DOWNLOADABLE,
    1,
    591_000_000,
    TINY.defaults,
    "CC-BY-NC-4.0",
    "https://example.org/by-nc",
    None,
)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (form, result):
        monkeypatch.setattr(module, "list_models", lambda _: [SMALL, TINY])


def make_clip(name: str = "clip.wav") -> tuple[io.BytesIO, str]:
    file = io.BytesIO()
    with wave.open(file, "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(32_000)
        clip.writeframes(bytes(2 * 32_000))
    return io.BytesIO(file.getvalue()), name


def submit(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    response = send_form(client, "/musicgen", **(FORM | fields))
    assert response.status_code == 303, response.text
    job = client.get(f"/api/v1{response.headers['Location']}").json
    assert job is not None
    return dict(job)


def make_files(number: int) -> dict[str, tuple[str, bytes]]:
    return {
        f"audio-{number}.ogg": ("audio/ogg", b"OggS" + bytes(96)),
        f"codes-{number}.npy": ("application/octet-stream", b"codes"),
        f"waveform-{number}.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        f"spectrogram-{number}.png": ("image/png", b"\x89PNG"),
    }


@pytest.mark.usefixtures("cards")
def test_form_shows_models_licences_and_defaults(client: FlaskClient) -> None:
    page = client.get("/musicgen").text
    assert f'<option selected value="{SMALL.name}">MusicGen small · downloadable<' in page
    assert f'<option value="{TINY.name}">Tiny · ready<' in page
    assert '<a href="https://example.org/by-nc" rel="license">CC-BY-NC-4.0</a></strong>: MusicGen small<' in page
    assert "<strong>Tiny</strong>: Random weights: the output is noise." in page
    for name, value in {"top_k": "77", "guidance_scale": "3", "do_sample": "on", "max_new_tokens": "256"}.items():
        assert re.search(rf'id="{name}-hint">[^<]*Default of the model: {value}\.<', page)
    assert "open" not in Page(page).find_all("details")[0]


def test_form_stores_the_same_parameters_as_the_api(client: FlaskClient) -> None:
    job = submit(client, prompts="a waltz\r\n\r\na <b>march</b>\r\n", num_samples="2", seed="7", format="flac")
    body = {
        "kind": "musicgen",
        "params": {
            "model": "mindjobs/tiny",
            "prompts": ["a waltz", "a <b>march</b>"],
            "num_samples": 2,
            "duration_s": 1,
            "seed": 7,
            "format": "flac",
        },
    }
    direct = client.post("/api/v1/jobs", json=body).json
    assert direct is not None
    assert job["params"] == direct["params"]
    assert job["id"] in client.get("/").text


def test_clips_are_uploaded_with_the_form(client: FlaskClient) -> None:
    job = submit(client, prompts="one\ntwo", file=[make_clip("a.wav")], start_s="0.5")
    first, second = job["params"]["audio_prompts"]
    assert first == second == {"upload": first["upload"], "start_s": 0.5, "end_s": None}
    assert submit(client, prompts="one")["params"]["audio_prompts"] == []


def test_clips_are_assigned_to_prompts_in_the_order_of_the_file_names(client: FlaskClient, services: Services) -> None:
    job = submit(client, prompts="one\ntwo", file=[make_clip("b.wav"), make_clip("a.wav")])
    ids = [clip["upload"] for clip in job["params"]["audio_prompts"]]
    with services.database.reading() as session:
        uploads = queries.find_uploads(session, ids)
    assert [uploads[upload_id].filename for upload_id in ids] == ["a.wav", "b.wav"]


def test_invalid_form_is_shown_again_with_its_values_and_clips(client: FlaskClient) -> None:
    clips = [make_clip("a.wav"), make_clip("b.wav")]
    response = send_form(client, "/musicgen", **FORM, prompts="one\n<i>two</i>", top_k="1e9", file=clips)
    assert response.status_code == 422
    assert "must be a whole number" in find_message(response.text, "top_k")
    elements = Page(response.text)
    sent = elements.find_form("/musicgen").fields
    assert (sent["prompts"], sent["duration_s"]) == ("one\n<i>two</i>", "1")
    assert "open" in elements.find_all("details")[0]
    upload_ids = [field["value"] for field in elements.find_all("input") if field.get("name") == "upload"]
    assert client.get("/api/v1/jobs?kind=musicgen").json == {"jobs": [], "next_cursor": None}
    job = submit(client, prompts="one\ntwo", upload=upload_ids)
    assert [clip["upload"] for clip in job["params"]["audio_prompts"]] == upload_ids
    assert len(upload_ids) == 2


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"prompts": "a\n\nb\0"}, "prompts", "line 3: contains a NUL"),
        ({"duration_s": "1", "max_new_tokens": "5"}, "max_new_tokens", "not both"),
        ({"prompts": "a\nb\nc", "file": ["a.wav", "b.wav"]}, "file", "clips: 2, prompts: 3"),
        ({"file": ["a.wav", ""]}, "file", "empty.wav is empty"),
        ({"upload": "mine"}, "file", "a file that you uploaded earlier no longer exists"),
        ({"upload": "\0"}, "file", "a file that you uploaded earlier no longer exists"),
    ],
)
def test_message_is_shown_at_the_field_that_is_wrong(
    client: FlaskClient, fields: dict[str, Any], field: str, words: str
) -> None:
    files = [make_clip(name) if name else (io.BytesIO(), "empty.wav") for name in fields.get("file", [])]
    response = send_form(client, "/musicgen", **(FORM | fields | {"file": files}))
    assert response.status_code == 422
    assert words in find_message(response.text, field)


@pytest.mark.usefixtures("cards")
def test_page_of_a_job_shows_each_sample_with_a_player(client: FlaskClient, services: Services) -> None:
    job = submit(client, prompts="<b>loud</b>\nquiet")
    generated = [
        make_sample(
            0, prompt="<b>loud</b>", warnings=[{"code": "text", "values": {"message": "The audio is clipped"}}]
        ),
        make_sample(1, prompt="quiet", peak_dbfs=None, lufs=None),
    ]
    files = make_files(0) | make_files(1) | {"notes.txt": ("text/plain", b"more")}
    succeed(services, job["id"], MUSIC | {"samples": generated}, files)
    page = client.get(f"/jobs/{job['id']}").text
    base = f"/api/v1/jobs/{job['id']}/artifacts"
    elements = Page(page)
    players = elements.find_all("audio")
    assert [player["src"] for player in players] == [f"{base}/audio-0.ogg", f"{base}/audio-1.ogg"]
    assert players[0] == players[0] | {"controls": None, "preload": "metadata", "aria-label": "Sample 1: <b>loud</b>"}
    assert [(image["src"], image["alt"], image["loading"]) for image in elements.find_all("img")] == [
        (f"{base}/{what}-{number}.{ending}", f"{what.capitalize()} of sample {number + 1}", "lazy")
        for number in range(2)
        for what, ending in (("waveform", "svg"), ("spectrogram", "png"))
    ]
    downloads = [str(link["href"]) for link in elements.find_all("a") if str(link["href"]).endswith("?download=1")]
    assert sorted(downloads) == sorted(f"{base}/{name}?download=1" for name in files if "audio" not in name)
    samples_base = f"/jobs/{job['id']}/samples"
    for number, ending in itertools.product(range(2), ("wav", "flac", "mp3", "ogg")):
        assert f"{samples_base}/{number}.{ending}" in [link["href"] for link in elements.find_all("a")]
    assert "<b>loud</b>" not in page
    assert page.count("<dd>\N{EN DASH}</dd>") == 2  # silence has no peak and no loudness
    for words in ("<dd>-1.2 dBFS</dd>", "<dd>-14.0 LUFS</dd>", "<dd>1.00 s</dd>", "<dd>41</dd>"):
        assert words in page
    for words in (
        "The audio is clipped",
        "12.3 tokens per second",
        "real-time factor 0.25",
        "precision float32",
        "Generated by Tiny. Licence of the weights: Apache-2.0. Random weights: the output is noise.",
    ):
        assert words in page


def test_audio_of_a_player_is_served_whole_and_in_ranges(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    succeed(services, job["id"], MUSIC | {"samples": [make_sample(0)]}, make_files(0))
    page = client.get(f"/jobs/{job['id']}").text
    assert " No prompt</h2>" in page
    (player,) = Page(page).find_all("audio")
    url = str(player["src"])
    with client.get(url, buffered=True) as whole:
        assert (whole.status_code, whole.headers["Content-Type"]) == (200, "audio/ogg")
    with client.get(url, headers={"Range": "bytes=0-3"}, buffered=True) as part:
        assert (part.status_code, part.data) == (206, b"OggS")


def test_page_of_a_running_job_shows_progress_and_no_samples(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    start_job(services, job["id"])
    page = client.get(f"/jobs/{job['id']}").text
    assert "<progress" in page
    assert "<audio" not in page


def test_api_lists_the_models(client: FlaskClient) -> None:
    response = client.get("/api/v1/models")
    assert response.json is not None
    models = {model["name"]: model for model in response.json["models"]}
    assert {"facebook/musicgen-small", "mindjobs/tiny"} <= models.keys()
    small = models["facebook/musicgen-small"]
    keys = ["name", "title", "state", "channels", "parameters", "defaults", "licence", "licence_url", "note"]
    assert list(small) == keys
    assert small["state"] in set(Availability)
    assert list(small["defaults"]) == [
        "do_sample",
        "guidance_scale",
        "temperature",
        "top_k",
        "top_p",
        "max_new_tokens",
    ]
