"""The catalogue finds and describes models, even if their folders are missing, incomplete or damaged."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from shared.kinds.musicgen import catalogue
from shared.kinds.musicgen.catalogue import (
    Availability,
    GenerationDefaults,
    ModelCard,
    builtin_folder,
    find_model,
    is_allowed,
    list_models,
)
from shared.settings import Settings
from shared.texts import render, text
from worker.engines.musicgen.model.builtin_model import TINY
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.random_model import SMALL, Size, describe
from worker.engines.musicgen.model.tensors import list_tensors

SMALL_NAME = "facebook/musicgen-small"
PUBLISHED = GenerationDefaults(
    do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=250, top_p=1.0, max_new_tokens=1_499
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an instance that finds models only in the folders of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return Settings(home=tmp_path / "home", models_dir=tmp_path / "models")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "models"


def write_model(folder: Path, **files: str) -> Path:
    """Write a folder that looks like a complete model.

    Parameters
    ----------
    files
        Contents that replace the default ones: ``config_json`` for ``config.json``. An empty content omits the file.
    """
    contents = {"config_json": '{"model_type": "musicgen"}', "tokenizer_json": "{}", "model_safetensors": "x"} | files
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if content:
            (folder / name.replace("_json", ".json").replace("_safe", ".safe").replace("_md", ".md")).write_text(
                content
            )
    return folder


def write_snapshot(cache: Path, name: str, commit: str, **files: str) -> Path:
    return write_model(cache / f"models--{name.replace('/', '--')}" / "snapshots" / commit, **files)


def render_note(card: ModelCard) -> str:
    return render(card.note) if card.note else ""


def find_card(settings: Settings, name: str) -> ModelCard:
    cards = [card for card in list_models(settings) if card.name == name]
    assert len(cards) == 1
    return cards[0]


def test_list_contains_the_published_models_and_the_built_in_model(settings: Settings) -> None:
    cards = {card.name: card for card in list_models(settings)}
    sizes = ("small", "medium", "large", "stereo-small", "stereo-medium", "stereo-large")
    assert cards.keys() == {*(f"facebook/musicgen-{size}" for size in sizes), "mindjobs/tiny"}
    for name, card in cards.items():
        assert card.defaults == PUBLISHED
        assert card.channels == (2 if "stereo" in name else 1)
        if name == "mindjobs/tiny":
            assert (card.state, card.licence) == (Availability.READY, "Apache-2.0")
            assert card.note == text("model-note-random")
        else:
            assert (card.state, card.licence, card.note) == (Availability.DOWNLOADABLE, "CC-BY-NC-4.0", None)
            assert card.licence_url == "https://creativecommons.org/licenses/by-nc/4.0/"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("size", "hidden", "layers"), [("small", 1024, 24), ("medium", 1536, 48), ("large", 2048, 48)])
def test_number_of_parameters_matches_the_shapes_of_the_decoder(
    size: str, hidden: int, layers: int, channels: int, tmp_path: Path
) -> None:
    shape = {"hidden": hidden, "layers": layers, "feed_forward": 4 * hidden, "channels": channels}
    counted = count_decoder(Size(**{**vars(SMALL), **shape}), tmp_path)
    name = f"facebook/musicgen-{'stereo-' if channels == 2 else ''}{size}"
    assert find_card(Settings(home=tmp_path), name).parameters == counted


def test_number_of_parameters_of_the_built_in_model_is_correct(settings: Settings, tmp_path: Path) -> None:
    assert find_card(settings, catalogue.TINY).parameters == count_decoder(TINY, tmp_path)


def count_decoder(size: Size, folder: Path) -> int:
    (folder / "config.json").write_text(json.dumps(describe(size)))
    shapes = list_tensors(ModelConfig.read(folder))
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("decoder."))


def test_models_that_are_not_on_disk_are_missing_in_offline_mode(
    settings: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    write_snapshot(cache, "facebook/musicgen-large", "a")
    states = {card.name: card.state for card in list_models(settings)}
    assert states.pop("mindjobs/tiny") == states.pop("facebook/musicgen-large") == Availability.READY
    assert set(states.values()) == {Availability.MISSING}


def test_models_folder_is_searched_before_the_cache(settings: Settings, cache: Path, own: Path) -> None:
    assert find_model(settings, SMALL_NAME) is None
    snapshot = write_snapshot(cache, SMALL_NAME, "a")
    assert find_model(settings, SMALL_NAME) == snapshot
    folder = write_model(own / SMALL_NAME)
    assert find_model(settings, SMALL_NAME) == folder
    assert find_card(settings, SMALL_NAME).state == Availability.READY


def test_current_revision_in_the_cache_is_used_if_it_is_complete(settings: Settings, cache: Path) -> None:
    old, new = (write_snapshot(cache, SMALL_NAME, commit) for commit in ("b", "a"))
    for age, folder in enumerate((new, old)):
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    assert find_model(settings, SMALL_NAME) == new
    references = cache / "models--facebook--musicgen-small" / "refs"
    references.mkdir()
    (references / "main").write_text("b")
    assert find_model(settings, SMALL_NAME) == old
    (old / "model.safetensors").unlink()
    assert find_model(settings, SMALL_NAME) == new


def test_interrupted_download_is_not_found(settings: Settings, cache: Path) -> None:
    folder = write_snapshot(cache, SMALL_NAME, "a")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/not-there")
    assert find_model(settings, SMALL_NAME) is None
    assert find_card(settings, SMALL_NAME).state == Availability.DOWNLOADABLE


def test_sharded_model_is_found_only_if_all_shards_exist(settings: Settings, own: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    folder = write_model(own / "me/mine", model_safetensors="")
    (folder / "model.safetensors.index.json").write_text(index)
    (folder / "model-1.safetensors").touch()
    assert find_model(settings, "me/mine") is None
    assert "model-2.safetensors" in render_note(find_card(settings, "me/mine"))
    (folder / "model-2.safetensors").touch()
    assert find_model(settings, "me/mine") == folder


def test_snapshot_in_the_cache_does_not_replace_the_built_in_model(settings: Settings, cache: Path) -> None:
    write_snapshot(cache, catalogue.TINY, "a")
    assert find_model(settings, catalogue.TINY) is None
    write_model(builtin_folder(settings))
    assert find_model(settings, catalogue.TINY) == builtin_folder(settings)


@pytest.mark.usefixtures("settings")
def test_built_in_model_may_be_in_the_models_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, models_dir=tmp_path / "models")
    assert find_card(settings, catalogue.TINY).state == Availability.READY
    write_model(builtin_folder(settings))
    assert find_model(settings, catalogue.TINY) == builtin_folder(settings)
    assert find_card(settings, catalogue.TINY).state == Availability.READY


@pytest.mark.parametrize(
    ("models_allowed", "allowed"),
    [
        ("known", {SMALL_NAME}),
        ("me/listed", {"me/listed"}),
        (" known , me/listed ", {SMALL_NAME, "me/listed"}),
        ("me/*", {"me/cached", "me/listed"}),
        ("*", {SMALL_NAME, "me/cached", "me/listed", "you/other"}),
    ],
)
def test_listed_models_are_allowed_and_those_of_the_models_folder(
    settings: Settings, cache: Path, own: Path, models_allowed: str, allowed: set[str]
) -> None:
    settings = settings.model_copy(update={"models_allowed": models_allowed})
    write_model(own / "me/own")
    write_snapshot(cache, "me/cached", "a")
    names = (SMALL_NAME, "me/listed", "me/cached", "you/other", "me/own", catalogue.TINY)
    assert {name for name in names if is_allowed(settings, name)} == allowed | {"me/own", catalogue.TINY}
    # Models that only a pattern allows are not listed.
    listed = allowed - {"me/cached", "you/other"} - (set() if "me/listed" in models_allowed else {"me/listed"})
    assert {card.name for card in list_models(settings)} & {*names} == listed | {"me/own", catalogue.TINY}


def test_listed_models_are_described_if_they_are_in_the_cache(settings: Settings, cache: Path) -> None:
    settings = settings.model_copy(update={"models_allowed": "me/listed,me/stereo,me/*"})
    stereo = '{"model_type": "musicgen", "decoder": {"audio_channels": 2}}'
    write_snapshot(cache, "me/stereo", "a", config_json=stereo, README_md="---\nlicense: mit\n---\n")
    cards = {card.name: card for card in list_models(settings)}
    assert cards.keys() == {catalogue.TINY, "me/listed", "me/stereo"}
    assert (cards["me/listed"].state, cards["me/listed"].licence) == (Availability.DOWNLOADABLE, "unknown")
    card = cards["me/stereo"]
    assert (card.state, card.licence, card.channels) == (Availability.READY, "mit", 2)


@pytest.mark.parametrize("name", ["", "a", "../x", "a/..", "a/b/c", "a/b\n", "/etc/x"])
def test_invalid_name_finds_no_model(settings: Settings, own: Path, name: str) -> None:
    write_model(own)
    assert find_model(settings, name) is None


def test_other_models_in_the_models_folder_are_listed(settings: Settings, own: Path) -> None:
    stereo = '{"model_type": "musicgen", "decoder": {"audio_channels": 2}}'
    readme = "---\nlanguage: en\nlicense: other\nlicense_link: https://example.org/terms\n---\nlicense: not this\n"
    write_model(own / "me/stereo", config_json=stereo, README_md=readme)
    write_model(own / "me/plain", README_md="license: mit, but not in the head")
    write_model(own / "me/llama", config_json='{"model_type": "llama"}')
    write_model(own / "me/.hidden")
    own_cards = [card for card in list_models(settings) if card.name.startswith("me/")]
    assert own_cards == [
        ModelCard("me/plain", "me/plain", Availability.READY, 1, None, PUBLISHED, "unknown", None, None),
        ModelCard(
            "me/stereo",
            "me/stereo",
            Availability.READY,
            2,
            None,
            PUBLISHED,
            "other",
            "https://example.org/terms",
            None,
        ),
    ]


def test_licence_link_that_is_not_a_web_address_is_ignored(settings: Settings, own: Path) -> None:
    write_model(own / "me/mine", README_md="---\nlicense: 'mit'\nlicense_link: javascript:alert(1)\n---\n")
    card = find_card(settings, "me/mine")
    assert (card.licence, card.licence_url) == ("mit", None)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"temperature": 0.5, "top_k": 40, "top_p": 0.9}, {"temperature": 0.5, "top_k": 40, "top_p": 0.9}),
        ({"guidance_scale": 2, "do_sample": False}, {"guidance_scale": 2.0, "do_sample": False}),
        ({"max_length": 501}, {"max_new_tokens": 500}),
        ({"max_length": 501, "max_new_tokens": 300}, {"max_new_tokens": 300}),
        ({"guidance_scale": None, "top_k": 10**9, "temperature": "hot", "max_length": "long"}, {}),
        ({"max_length": 1, "top_p": float("nan")}, {}),
        ([], {}),
    ],
)
def test_valid_defaults_of_the_model_override_the_published_defaults(
    settings: Settings, own: Path, stored: Any, expected: dict[str, Any]
) -> None:
    write_model(own / SMALL_NAME, generation_config_json=json.dumps(stored))
    assert vars(find_card(settings, SMALL_NAME).defaults) == vars(PUBLISHED) | expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config_json": "{"}, "config.json is missing or cannot be read"),
        ({"config_json": "[]"}, "config.json is missing or cannot be read"),
        ({"tokenizer_json": ""}, "tokenizer.json is missing"),
        ({"model_safetensors": ""}, "model.safetensors is missing"),
    ],
)
def test_note_names_the_missing_or_unreadable_file_of_a_broken_folder(
    settings: Settings, own: Path, files: dict[str, str], words: str
) -> None:
    write_model(own / "me/broken", **files)
    card = find_card(settings, "me/broken")
    assert card.state == Availability.MISSING
    assert words in render_note(card)


def test_broken_folder_of_a_model_hides_the_snapshot_in_the_cache(settings: Settings, cache: Path, own: Path) -> None:
    write_snapshot(cache, SMALL_NAME, "a")
    write_model(own / SMALL_NAME, tokenizer_json="")
    card = find_card(settings, SMALL_NAME)
    assert card.state == Availability.MISSING
    assert "tokenizer.json is missing" in render_note(card)
    assert find_model(settings, SMALL_NAME) is None


@pytest.mark.usefixtures("settings")
def test_models_are_listed_without_a_models_folder(tmp_path: Path) -> None:
    assert len(list_models(Settings(home=tmp_path / "home"))) == 7
