"""Music jobs that cannot succeed are refused at submission, with the field and the value that helps."""

from dataclasses import replace
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.errors import RequestInvalidError
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.jobs import ANONYMOUS, CANCELLED, Origin
from shared.services import Services
from shared.submission.submit import submit_job
from shared.texts import render, text
from tests.support.html_pages import find_message, send_form
from tests.support.job_outcomes import end, start_job, store_clip

JOBS: Final = "/api/v1/jobs"
TINY: Final = "mindjobs/tiny"


def post(client: FlaskClient, **params: Any) -> TestResponse:
    body = {"kind": "musicgen", "device": "cpu", "params": {"model": TINY, "duration_s": 2} | params}
    return client.post(JOBS, json=body)


def list_problems(response: TestResponse) -> dict[str, str]:
    assert response.status_code == 422, response.text
    assert response.json is not None
    return {problem["pointer"]: problem["code"] for problem in response.json["errors"]}


@pytest.mark.parametrize(
    ("clip", "pointer", "code", "words"),
    [
        ((0.05, {}), "upload", "clip-file-too-short", "has only 0.050 s of sound; upload at least 0.1 s"),
        ((3.368, {"start_s": 4}), "start_s", "clip-starts-beyond-end", "is 3.37 s long; set it to at most 3.26"),
        ((3.368, {"start_s": 3.3}), "start_s", "clip-starts-too-late", "set it to at most 3.26"),
        ((3.368, {"end_s": 3.5}), "end_s", "clip-ends-beyond-end", "is 3.37 s long; set it to at most 3.36"),
        ((3.368, {"start_s": 1, "end_s": 1.05}), "end_s", "clip-ends-too-early", "set it to at least 1.1"),
        ((3.368, {"start_s": 2, "end_s": 1}), "end_s", "clip-end-before-start", "must be after start_s, 2 s"),
        (
            (3_600, {}),
            "end_s",
            "clip-leaves-no-room",
            "has 3600.00 s, and the model can use at most 38.88 s of it; set",
        ),
        ((3_600, {"start_s": 60}), "end_s", "clip-leaves-no-room", "set it to at most 98.88"),
    ],
    ids=str,
)
def test_a_clip_that_cannot_be_continued_is_refused_at_its_field(  # noqa: PLR0913, PLR0917 - what is sent, and what is expected
    client: FlaskClient, services: Services, clip: tuple[float, dict[str, float]], pointer: str, code: str, words: str
) -> None:
    fine, bad = store_clip(services, 2.0), store_clip(services, clip[0])
    clips = [{"upload": fine}, {"upload": bad} | clip[1]]
    response = post(client, prompts=["one", "two"], audio_prompts=clips)
    assert list_problems(response) == {f"/params/audio_prompts/1/{pointer}": code}
    assert response.json is not None
    assert words in response.json["errors"][0]["detail"]
    assert client.get(JOBS).json == {"jobs": [], "next_cursor": None}


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"start_s": 3.2},
        {"end_s": 3.377},
        {"start_s": 3.26, "end_s": 3.36},
        {"start_s": 1, "end_s": 1.1},
        {"start_s": 0.7, "end_s": 0.8},
    ],
)
def test_a_clip_that_can_be_continued_is_accepted(
    client: FlaskClient, services: Services, part: dict[str, float]
) -> None:
    response = post(client, audio_prompts=[{"upload": store_clip(services, 3.368)} | part])
    assert response.status_code == 202, response.text


def test_an_unreadable_clip_is_refused_with_what_its_inspection_found(client: FlaskClient, services: Services) -> None:
    problem = text("inspection-died", memory_mb=64).serialize()
    unreadable = store_clip(services, 1.0, inspection_state=InspectionState.UNREADABLE, facts=None, problem=problem)
    response = post(client, audio_prompts=[{"upload": unreadable}])
    assert list_problems(response) == {"/params/audio_prompts/0/upload": "inspection-died"}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (UploadKind.TABLE, "is text, such as a table, a playlist or an SVG picture, and not sound; upload the sound"),
        (UploadKind.UNKNOWN, "is a file whose format is not known, and not sound; upload the sound itself"),
    ],
)
def test_an_upload_that_is_no_sound_is_refused_with_what_it_is(
    client: FlaskClient, services: Services, kind: UploadKind, words: str
) -> None:
    upload = store_clip(services, 1.0, kind=kind, facts=None)
    response = post(client, audio_prompts=[{"upload": upload}])
    assert list_problems(response) == {"/params/audio_prompts/0/upload": "upload-not-audio"}
    assert words in response.text


def test_a_bad_clip_is_refused_while_the_only_job_of_a_full_batch_runs(client: FlaskClient, services: Services) -> None:
    assert post(client, prompts=["rock"], num_samples=64, duration_s=40).status_code == 202
    start_job(services)  # a worker has claimed the job, and no other worker exists
    response = post(client, audio_prompts=[{"upload": store_clip(services, 0.01)}])
    assert list_problems(response) == {"/params/audio_prompts/0/upload": "clip-file-too-short"}


@pytest.mark.parametrize(
    ("clip_s", "params", "pointer", "code", "words"),
    [
        (None, {"duration_s": 45}, "duration_s", "duration-beyond-model", "must be at most 40.88 s"),
        (None, {"duration_s": 600}, "duration_s", "duration-beyond-model", "must be at most 40.88 s"),
        (38.0, {"duration_s": 10}, "duration_s", "duration-beyond-clip", "at most 2.88 s: the clip takes 38.00 s"),
        (None, {"max_new_tokens": 2_048}, "max_new_tokens", "tokens-beyond-model", "must be at most 2047"),
        (38.0, {"max_new_tokens": 200}, "max_new_tokens", "tokens-beyond-clip", "must be at most 147"),
        (2.0, {"max_new_tokens": 3}, "max_new_tokens", "tokens-too-few", "must be at least 4 to continue a clip"),
    ],
)
def test_music_that_is_too_long_for_the_model_is_refused_with_the_length_that_fits(  # noqa: PLR0913, PLR0917 - what is sent, and what is expected
    client: FlaskClient,
    services: Services,
    clip_s: float | None,
    params: dict[str, float],
    pointer: str,
    code: str,
    words: str,
) -> None:
    clips = [] if clip_s is None else [{"upload": store_clip(services, clip_s)}]
    length = {"duration_s": None} | params
    response = post(client, audio_prompts=clips, **length)
    assert list_problems(response) == {f"/params/{pointer}": code}
    assert response.json is not None
    detail = response.json["errors"][0]["detail"]
    assert words in detail
    said = float(detail.removeprefix("must be at most ").removeprefix("must be at least ").split()[0].rstrip(":,"))
    fitting = length | {pointer: said if pointer == "duration_s" else int(said)}
    assert post(client, audio_prompts=clips, **fitting).status_code == 202


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"prompts": ["rock"] * 64, "num_samples": 64, "duration_s": 40}, "num_samples"),
        ({"prompts": ["rock"] * 64, "num_samples": 2, "duration_s": 40}, "prompts"),
        ({"prompts": ["rock"], "num_samples": 64, "duration_s": None, "max_new_tokens": 2_047}, None),
        ({"prompts": [], "num_samples": 64, "duration_s": None, "max_new_tokens": 2_047}, None),
    ],
)
def test_a_job_that_makes_too_much_music_is_refused_with_the_limit_and_its_setting(
    client: FlaskClient, params: dict[str, Any], field: str | None
) -> None:
    response = post(client, **params)
    if field is None:
        assert response.status_code == 202, response.text
        return
    assert list_problems(response) == {f"/params/{field}": "music-too-much"}
    for words in ("64 prompts", "40 s", "3,600 s", "MINDJOBS_MAX_JOB_MUSIC_S"):
        assert words in response.text


def test_the_field_that_is_too_large_alone_is_named(services: Services) -> None:
    settings = services.settings.model_copy(update={"max_job_music_s": 8.0})
    for params, field in (
        ({"duration_s": 9.0}, "duration_s"),
        ({"max_new_tokens": 401}, "max_new_tokens"),
        ({"duration_s": 3.0, "num_samples": 3}, "num_samples"),
    ):
        body = {"kind": "musicgen", "params": {"model": TINY} | params}
        with pytest.raises(RequestInvalidError) as caught:
            submit_job(replace(services, settings=settings), body)
        assert [problem.pointer for problem in caught.value.problems] == [f"/params/{field}"]


def test_the_music_of_an_owner_is_limited_until_jobs_have_ended(services: Services) -> None:
    services = replace(services, settings=services.settings.model_copy(update={"max_queued_music_s": 100.0}))

    def submit(seconds: float, owner: str = ANONYMOUS, **params: Any) -> str:
        body = {"kind": "musicgen", "device": "cpu", "params": {"model": TINY, "duration_s": seconds} | params}
        return submit_job(services, body, origin=Origin(owner))[0].id

    running = submit(20, num_samples=2)
    submit(20, prompts=["a", "b"])
    lease = start_job(services, running)
    submit(20)
    for owner in (ANONYMOUS, "ada"):
        if owner:
            submit(40, owner, num_samples=2)
        with pytest.raises(RequestInvalidError) as caught:
            submit(21, owner)
        (problem,) = caught.value.problems
        assert (problem.pointer, problem.text.code) == ("/params/duration_s", "music-limit")
        assert "MINDJOBS_MAX_QUEUED_MUSIC_S" in render(problem.text)
    submit_job(services, {"kind": "knn"})
    end(services, lease, CANCELLED, {})
    submit(40)
    with pytest.raises(RequestInvalidError):
        submit(1, num_samples=2)


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"start_s": "50"}, "start_s", "is 50 s, but the file is 38.00 s long; set it to at most 37.9"),
        ({"end_s": "38.5"}, "end_s", "is 38.5 s, but the file is 38.00 s long"),
        ({"duration_s": "10"}, "duration_s", "must be at most 2.88 s: the clip takes 38.00 s of the 40.88 s"),
        ({}, "duration_s", "must be at most 2.88 s"),
        ({"num_samples": "64", "prompts": "a\nb", "end_s": "2", "duration_s": "30"}, "num_samples", "num_samples 64"),
    ],
)
def test_a_form_shows_the_problem_at_its_field_and_what_was_found_in_the_clip(
    client: FlaskClient, services: Services, fields: dict[str, str], name: str, words: str
) -> None:
    warning = text("inspection-too-large", memory_mb=64).serialize()
    facts = {"duration_s": 38.0, "rate": 44_100, "channels": 2, "format": "mov", "codec": "aac", "warnings": [warning]}
    upload = store_clip(services, 38.0, facts=facts)
    response = send_form(client, "/musicgen", model=TINY, upload=upload, **fields)
    assert response.status_code == 422
    assert words in find_message(response.text, name)
    assert "38.00 s, 44100 Hz, stereo, aac in mov" in response.text
    assert "reading the file needs more than 64 MB" in response.text


def test_a_form_names_the_clip_that_is_too_short(client: FlaskClient, services: Services) -> None:
    uploads = [store_clip(services, 2.0), store_clip(services, 0.01)]
    response = send_form(client, "/musicgen", model=TINY, upload=uploads, prompts="a\nb")
    assert "clip 2: has only 0.010 s of sound; upload at least 0.1 s" in find_message(response.text, "file")
