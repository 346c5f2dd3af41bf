"""The forms: the request body that each form builds, and the field at which each problem of the body is shown."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict

from shared.database.tables import Upload
from shared.errors import Problem, RequestInvalidError
from shared.ids import make_id
from shared.jobs import DeviceClass
from shared.kinds.musicgen.catalogue import Availability, GenerationDefaults, ModelCard
from shared.kinds.musicgen.parameters import Precision
from shared.schemas.submission import parse_submission
from shared.services import Services
from shared.texts import text
from tests.support.job_outcomes import register_worker
from web.kinds import PAGES
from web.kinds.job_form import JobForm, read_number
from web.kinds.musicgen import form as form_module
from web.kinds.musicgen.form import MusicgenForm

FORMS = [pages.form for pages in PAGES.values()]
DEFAULTS = GenerationDefaults(
    do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=250, top_p=1.0, max_new_tokens=1_500
)

# The tests of this module do not depend on the database, so they run on SQLite only.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def make_card(name: str, state: Availability, defaults: GenerationDefaults = DEFAULTS) -> ModelCard:
    return ModelCard(name, name.upper(), state, 1, None, defaults, "Some-1.0", None, None)


@pytest.fixture(autouse=True)
def _context() -> Iterator[None]:
    app = Flask(__name__)
    app.secret_key = make_id()
    with app.test_request_context():
        yield


def send_music_form(*uploads: str, without: str = "", **fields: str) -> JobForm:
    """Return the music form as a user sends it with some fields filled in; the field ``without`` is not sent."""
    blank = {field.name: field.data for field in MusicgenForm(formdata=None) if isinstance(field.data, str)}
    filled = {"do_sample": "y"} | blank | fields
    form = MusicgenForm(formdata=MultiDict({name: value for name, value in filled.items() if name != without}))
    form.uploads = [Upload(id=upload) for upload in uploads]
    return form


def parse(body: object) -> dict[str, Any]:
    return parse_submission(body, 1e6).params.model_dump(mode="json")


def find_messages(form: JobForm) -> dict[str, str]:
    """Return the messages that a form with an invalid body shows, keyed by the name of the field."""
    with pytest.raises(RequestInvalidError) as caught:
        parse_submission(form.build_body(), 1e6)
    form.assign_problems(caught.value.problems)
    return {field.name: "; ".join(field.errors) for field in form if field.errors}


@pytest.mark.parametrize("form", FORMS)
def test_blank_form_builds_the_parameters_of_an_empty_request(form: type[JobForm]) -> None:
    assert parse(form(formdata=None).build_body()) == parse({"kind": form.KIND})


def test_every_field_of_the_music_form_sets_its_parameter() -> None:
    form = send_music_form(
        "clip",
        model="mindjobs/tiny",
        prompts="one\r\n two ",
        num_samples="3",
        start_s="0.5",
        end_s="2",
        max_new_tokens="40",
        without="do_sample",
        guidance_scale="2.5",
        temperature="0.7",
        top_k="0",
        top_p="0.9",
        seed="9223372036854775807",
        precision="float32",
        format="ogg",
        sample_rate="48000",
        loudness="lufs",
        device="cpu",
    )
    assert form.build_body()["device"] == "cpu"
    assert parse(form.build_body()) == {
        "model": "mindjobs/tiny",
        "prompts": ["one", "two"],
        "num_samples": 3,
        "audio_prompts": [{"upload": "clip", "start_s": 0.5, "end_s": 2.0}] * 2,
        "duration_s": None,
        "max_new_tokens": 40,
        "do_sample": False,
        "guidance_scale": 2.5,
        "temperature": 0.7,
        "top_k": 0,
        "top_p": 0.9,
        "seed": 2**63 - 1,
        "precision": "float32",
        "format": "ogg",
        "sample_rate": 48_000,
        "loudness": "lufs",
    }


@pytest.mark.parametrize(
    ("uploads", "prompts", "expected"),
    [
        ([], "", []),
        (["a"], "", ["a"]),
        (["a", "b"], "", ["a", "b"]),
        (["a"], "x\ny\n\nz\n", ["a", "a", "a"]),
        (["a", "b"], "x\ny", ["a", "b"]),
    ],
)
def test_single_clip_is_used_for_every_prompt_and_of_several_clips_each_prompt_gets_one(
    uploads: list[str], prompts: str, expected: list[str]
) -> None:
    clips = parse(send_music_form(*uploads, prompts=prompts).build_body())["audio_prompts"]
    assert [clip["upload"] for clip in clips] == expected


@pytest.mark.parametrize(
    ("uploads", "fields", "expected"),
    [
        ([], {"prompts": "short\n\n" + "x" * 4_001}, {"prompts": "line 3: is longer than"}),
        ([], {"prompts": "x\n" * 65}, {"prompts": "more items than the maximum of 64"}),
        ([], {"duration_s": "5", "max_new_tokens": "9"}, {"max_new_tokens": "gives the length a second time"}),
        ([], {"duration_s": "ten", "top_k": "1.5"}, {"duration_s": "must be a number", "top_k": "whole number"}),
        ([], {"temperature": "NaN"}, {"temperature": "finite"}),
        ([], {"start_s": "2"}, {"file": "is required"}),
        (["a"], {"start_s": "3", "end_s": "2"}, {"end_s": "must be after start_s, 3 s"}),
        (["a", "b"], {"end_s": "0"}, {"end_s": "clip 1: must be greater than 0; clip 2: must be"}),
        (["a", "b"], {"prompts": "one"}, {"file": "clips: 2, prompts: 1"}),
        ([], {"format": "aiff"}, {"format": "must be 'wav', 'wav16', 'flac'"}),
        ([], {"device": "tpu"}, {"device": "pattern"}),
        ([], {"model": "small"}, {"model": "pattern"}),
    ],
)
def test_message_is_shown_at_the_invalid_field(
    uploads: list[str], fields: dict[str, str], expected: dict[str, str]
) -> None:
    messages = find_messages(send_music_form(*uploads, **fields))
    assert messages.keys() == expected.keys()
    for name, words in expected.items():
        assert words in messages[name]


def test_message_about_a_clip_that_several_prompts_use_appears_once() -> None:
    assert find_messages(send_music_form("a", prompts="x\ny\nz", end_s="0")) == {"end_s": "must be greater than 0"}


@pytest.mark.parametrize("kind", FORMS)
def test_problem_without_a_field_is_shown_above_the_form(kind: type[JobForm]) -> None:
    form = kind(formdata=None)
    form.assign_problems([Problem("", text("one")), Problem("/params/nothing", text("two"))])
    assert form.form_errors == ["one", "two"]


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ([Availability.DOWNLOADABLE, Availability.READY], "facebook/musicgen-small"),
        ([Availability.MISSING, Availability.READY], "mindjobs/tiny"),
        ([Availability.MISSING, Availability.MISSING], "facebook/musicgen-small"),
    ],
)
@on_sqlite
def test_blank_form_selects_a_model_that_can_run(
    services: Services, monkeypatch: pytest.MonkeyPatch, states: list[Availability], chosen: str
) -> None:
    names = ["facebook/musicgen-small", "mindjobs/tiny"]
    cards = [make_card(name, state) for name, state in zip(names, states, strict=True)]
    monkeypatch.setattr(form_module, "list_models", lambda _: cards)
    assert MusicgenForm.make_blank(services).texts["model"] == chosen


@on_sqlite
def test_description_of_a_field_names_the_models_with_a_different_default(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = GenerationDefaults(
        do_sample=False, guidance_scale=3.0, temperature=1.0, top_k=50, top_p=1.0, max_new_tokens=256
    )
    ready = Availability.READY
    cards = [make_card("c", ready, other), make_card("a", ready), make_card("b", ready)]
    monkeypatch.setattr(form_module, "list_models", lambda _: cards)
    form = MusicgenForm.make_blank(services)
    form.prepare(services)
    assert form.do_sample.description.endswith("Default of the model: on (off for C).")
    assert form.top_k.description.endswith("Default of the model: 250 (50 for C).")
    assert form.max_new_tokens.description.endswith("Default of the model: 1500 (256 for C).")


@on_sqlite
def test_music_form_offers_the_precisions_of_live_workers(services: Services) -> None:
    form = MusicgenForm.make_blank(services)
    form.prepare(services)
    assert form.precision.choices == [*Precision]
    register_worker(services, "one", DeviceClass.CPU, kinds=["musicgen"], precisions={"musicgen": ["int8", "float32"]})
    register_worker(services, "two", DeviceClass.GPU, kinds=["musicgen"], precisions={"musicgen": ["float16"]})
    form.prepare(services)
    assert form.precision.choices == [Precision.AUTO, Precision.FLOAT32, Precision.FLOAT16, Precision.INT8]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 5 ", 5),
        ("0.5", 0.5),
        ("", ""),
        (" five ", "five"),
        ("true", "true"),
        ("[1]", "[1]"),
        ("9" * 5_000, "9" * 5_000),
    ],
)
def test_only_numbers_are_read_as_numbers(text: str, expected: float | str) -> None:
    assert read_number(text) == expected
