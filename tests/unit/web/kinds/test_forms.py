"""The forms: what they say to the schemas, and where the schemas' answers land."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict

from shared.database.tables import Upload
from shared.errors import Problem, RequestInvalidError
from shared.ids import make_id
from shared.kinds.musicgen.catalogue import Availability, GenerationDefaults, ModelCard
from shared.schemas.submission import parse_submission
from shared.settings import Settings
from web.kinds.knn.form import KnnForm
from web.kinds.musicgen import form as form_module
from web.kinds.musicgen.form import MusicgenForm
from web.pages.forms import JobForm, read_number

DEFAULTS = GenerationDefaults(
    do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=250, top_p=1.0, max_new_tokens=1_500
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    return Settings(home=tmp_path)


def make_card(name: str, state: Availability, defaults: GenerationDefaults = DEFAULTS) -> ModelCard:
    return ModelCard(name, name.upper(), state, 1, None, defaults, "Some-1.0", None, None)


@pytest.fixture(autouse=True)
def _context() -> Iterator[None]:
    app = Flask(__name__)
    app.secret_key = make_id()
    with app.test_request_context():
        yield


def keep(form: JobForm, *uploads: str) -> JobForm:
    form.kept = [Upload(id=upload) for upload in uploads]
    return form


def fill(*uploads: str, without: str = "", **fields: str) -> JobForm:
    """Send the form of music with some fields filled in."""
    untouched = {field.name: field.data for field in MusicgenForm(formdata=None) if isinstance(field.data, str)}
    filled = {"do_sample": "y"} | untouched | fields
    sent = MultiDict({name: value for name, value in filled.items() if name != without})
    return keep(MusicgenForm(formdata=sent), *uploads)


def parse(body: object) -> dict[str, Any]:
    return parse_submission(body, 1e6).params.model_dump(mode="json")


def refuse(form: JobForm) -> dict[str, str]:
    with pytest.raises(RequestInvalidError) as caught:
        parse_submission(form.build_body(), 1e6)
    form.place_problems(caught.value.problems)
    return {field.name: "; ".join(field.errors) for field in form if field.errors}


@pytest.mark.parametrize("form", [KnnForm, MusicgenForm])
def test_an_untouched_form_is_an_empty_request(form: type[JobForm]) -> None:
    assert parse(form(formdata=None).build_body()) == parse({"kind": form.KIND})


def test_every_field_of_the_musicgen_form_reaches_its_parameter() -> None:
    form = fill(
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
def test_one_clip_is_every_prompts_and_several_are_one_each(
    uploads: list[str], prompts: str, expected: list[str]
) -> None:
    clips = parse(fill(*uploads, prompts=prompts).build_body())["audio_prompts"]
    assert [clip["upload"] for clip in clips] == expected


@pytest.mark.parametrize(
    ("uploads", "fields", "expected"),
    [
        ([], {"prompts": "short\n\n" + "x" * 4_001}, {"prompts": "line 3: "}),
        ([], {"prompts": "x\n" * 65}, {"prompts": "at most 64"}),
        ([], {"duration_s": "5", "max_new_tokens": "9"}, {"max_new_tokens": "a second time"}),
        ([], {"duration_s": "ten", "top_k": "1.5"}, {"duration_s": "valid number", "top_k": "valid integer"}),
        ([], {"temperature": "NaN"}, {"temperature": "finite"}),
        ([], {"start_s": "2"}, {"file": "is missing"}),
        (["a"], {"start_s": "3", "end_s": "2"}, {"end_s": "must come after start_s, 3 s"}),
        (["a", "b"], {"end_s": "0"}, {"end_s": "clip 1: input should be greater than 0; clip 2: input should be"}),
        (["a", "b"], {"prompts": "one"}, {"file": "has 2 clips for 1 prompts"}),
        ([], {"format": "aiff"}, {"format": "'wav', 'flac'"}),
        ([], {"device": "tpu"}, {"device": "pattern"}),
        ([], {"model": "small"}, {"model": "pattern"}),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    uploads: list[str], fields: dict[str, str], expected: dict[str, str]
) -> None:
    placed = refuse(fill(*uploads, **fields))
    assert placed.keys() == expected.keys()
    for name, words in expected.items():
        assert words in placed[name]


def test_a_clip_that_serves_every_prompt_is_wrong_once() -> None:
    assert refuse(fill("a", prompts="x\ny\nz", end_s="0")) == {"end_s": "input should be greater than 0"}


@pytest.mark.parametrize("kind", [KnnForm, MusicgenForm])
def test_what_belongs_to_no_field_stands_above_the_form(kind: type[JobForm]) -> None:
    form = kind(formdata=None)
    form.place_problems([Problem("", "one"), Problem("/params/nothing", "two")])
    assert form.form_errors == ["one", "two"]


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ([Availability.DOWNLOADABLE, Availability.READY], "facebook/musicgen-small"),
        ([Availability.MISSING, Availability.READY], "mindjobs/tiny"),
        ([Availability.MISSING, Availability.MISSING], "facebook/musicgen-small"),
    ],
)
def test_an_untouched_form_has_a_model_that_can_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, states: list[Availability], chosen: str
) -> None:
    names = ["facebook/musicgen-small", "mindjobs/tiny"]
    cards = [make_card(name, state) for name, state in zip(names, states, strict=True)]
    monkeypatch.setattr(form_module, "list_models", lambda _: cards)
    assert MusicgenForm.make_blank(settings).texts["model"] == chosen


def test_a_default_that_models_do_not_share_names_them(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = GenerationDefaults(
        do_sample=False, guidance_scale=3.0, temperature=1.0, top_k=50, top_p=1.0, max_new_tokens=256
    )
    ready = Availability.READY
    cards = [make_card("c", ready, odd), make_card("a", ready), make_card("b", ready)]
    monkeypatch.setattr(form_module, "list_models", lambda _: cards)
    form = MusicgenForm.make_blank(settings)
    form.list_notes(settings)
    assert form.do_sample.description.endswith("The model's default: on, for C off.")
    assert form.top_k.description.endswith("The model's default: 250, for C 50.")
    assert form.max_new_tokens.description.endswith("The model's default: 1500, for C 256.")


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
