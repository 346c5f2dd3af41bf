"""All dimensions of a model are read; if a model is not supported, the error contains the file and the key."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import CONFIGURATION
from shared.kinds.musicgen.lengths import list_delays
from tests.references.musicgen_cases import TINY
from tests.unit.worker.engines.musicgen.model_shapes import CODEC, shape_decoder
from worker.engines.musicgen.model.configuration import DecoderConfig, ModelConfig, TextConfig
from worker.engines.musicgen.model.random_model import SMALL, Size, describe, write_random_model

Content = dict[str, Any]


def write(folder: Path, content: object) -> Path:
    (folder / CONFIGURATION).write_text(json.dumps(content))
    return folder


def read(folder: Path, size: Size = TINY, **changes: Any) -> ModelConfig:
    """Read a changed configuration: ``part__key=value`` sets a key of a part, and the value ``...`` removes the key."""
    content = describe(size)
    for name, value in changes.items():
        part, key = name.split("__")
        if value is ...:
            del content[part][key]
        else:
            content[part][key] = value
    return ModelConfig.read(write(folder, content))


def refuse(folder: Path, read_it: Callable[[], object]) -> str:
    with pytest.raises(JobFailedError) as caught:
        read_it()
    assert caught.value.type == "model-invalid"
    assert str(folder / CONFIGURATION) in caught.value.detail
    return caught.value.detail


def test_every_part_of_a_model_is_read(tmp_path: Path) -> None:
    write_random_model(tmp_path, TINY, seed=0)
    config = ModelConfig.read(tmp_path)
    assert config.text == TextConfig(
        vocabulary=160,
        hidden=24,
        head=8,
        heads=3,
        feed_forward=48,
        layers=2,
        distance_buckets=32,
        max_distance=128,
        epsilon=1e-6,
    )
    assert config.decoder == DecoderConfig(
        vocabulary=64, positions=512, hidden=32, heads=4, feed_forward=64, layers=2, codebooks=4, channels=1
    )
    assert config.decoder == shape_decoder(TINY)
    assert config.codec == CODEC


def test_hop_frame_rate_and_delays_are_derived_from_the_published_dimensions(tmp_path: Path) -> None:
    config = read(tmp_path, SMALL)
    assert config.codec.hop == 640
    assert config.codec.frame_rate == 50
    assert config.codec.codebooks == 4
    assert config.decoder.start == 2_048
    assert list_delays(config.decoder) == (0, 1, 2, 3)
    assert config.projected


def test_a_stereo_decoder_has_twice_as_many_codebooks_as_the_codec(tmp_path: Path) -> None:
    config = read(tmp_path, replace(TINY, channels=2))
    assert config.decoder == shape_decoder(replace(TINY, channels=2))
    assert config.decoder.codebooks == 8
    assert config.codec.codebooks == 4
    assert list_delays(config.decoder) == (0, 0, 1, 1, 2, 2, 3, 3)


def test_text_states_are_not_projected_if_text_encoder_and_decoder_have_equal_sizes(tmp_path: Path) -> None:
    assert not read(tmp_path, replace(TINY, text_hidden=TINY.hidden)).projected


def test_a_fractional_frame_rate_is_rounded_up(tmp_path: Path) -> None:
    config = read(tmp_path, audio_encoder__sampling_rate=3_201, audio_encoder__target_bandwidths=[9.7])
    assert config.codec.frame_rate == 401
    assert config.codec.codebooks == 4


def test_the_last_and_largest_bandwidth_determines_the_number_of_codebooks(tmp_path: Path) -> None:
    assert read(tmp_path, audio_encoder__target_bandwidths=[2.4, 9.6]).codec.codebooks == 4


def test_the_shortcut_is_read_from_the_file_and_is_present_by_default(tmp_path: Path) -> None:
    assert read(tmp_path, replace(TINY, shortcut=True)).codec.shortcut
    assert read(tmp_path, audio_encoder__use_conv_shortcut=...).codec.shortcut  # the default of transformers


def test_missing_keys_have_the_defaults_of_transformers(tmp_path: Path) -> None:
    size = replace(SMALL, shortcut=True)
    changes = {
        "text_encoder": ("relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon"),
        "decoder": ("vocab_size", "max_position_embeddings", "num_codebooks", "audio_channels", "pad_token_id"),
        "audio_encoder": ("hidden_size", "codebook_dim", "compress", "use_conv_shortcut", "kernel_size", "norm_type"),
    }
    left_out: Content = {f"{part}__{key}": ... for part, keys in changes.items() for key in keys}
    assert read(tmp_path, replace(size, filters=32), **left_out) == read(tmp_path, replace(size, filters=32))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_encoder__feed_forward_proj", "gated-gelu"),
        ("decoder__activation_function", "relu"),
        ("decoder__pad_token_id", 0),
        ("decoder__bos_token_id", 65),
        ("decoder__audio_channels", 3),
        ("decoder__num_codebooks", 0),
        ("decoder__hidden_size", 30),
        ("decoder__hidden_size", 33),
        ("decoder__hidden_size", -32),
        ("decoder__hidden_size", 32.5),
        ("decoder__hidden_size", "32"),
        ("decoder__hidden_size", True),
        ("decoder__hidden_size", None),
        ("decoder__hidden_size", ...),
        ("decoder__num_hidden_layers", float("inf")),
        ("decoder__num_hidden_layers", float("nan")),
        ("decoder__num_hidden_layers", 10**400),
        ("text_encoder__num_layers", -1),
        ("text_encoder__layer_norm_epsilon", 0),
        ("text_encoder__vocab_size", ...),
        ("audio_encoder__use_causal_conv", True),
        ("audio_encoder__use_causal_conv", ...),
        ("audio_encoder__normalize", True),
        ("audio_encoder__chunk_length_s", 1.0),
        ("audio_encoder__norm_type", "time_group_norm"),
        ("audio_encoder__pad_mode", "constant"),
        ("audio_encoder__audio_channels", 2),
        ("audio_encoder__codebook_dim", 8),
        ("audio_encoder__codebook_size", 1),
        ("audio_encoder__use_conv_shortcut", 1),
        ("audio_encoder__upsampling_ratios", []),
        ("audio_encoder__upsampling_ratios", 8),
        ("audio_encoder__upsampling_ratios", [4, -2]),
        ("audio_encoder__upsampling_ratios", [4, 0]),
        ("audio_encoder__upsampling_ratios", [4, 2.5]),
        ("audio_encoder__upsampling_ratios", [4, "2"]),
        ("audio_encoder__target_bandwidths", ...),
        ("audio_encoder__target_bandwidths", [None]),
    ],
    ids=str,
)
def test_an_unsupported_value_is_refused_with_its_key(tmp_path: Path, name: str, value: object) -> None:
    change: Content = {name: value}
    detail = refuse(tmp_path, lambda: read(tmp_path, **change))
    assert f": {name.replace('__', '.')}: " in detail


@pytest.mark.parametrize("codebooks", [2, 8])
def test_a_decoder_with_another_number_of_codebooks_than_the_codec_is_refused(tmp_path: Path, codebooks: int) -> None:
    detail = refuse(tmp_path, lambda: read(tmp_path, decoder__num_codebooks=codebooks))
    assert f"the decoder has {codebooks} codebooks of 64 codes, but the codec has 4 of 64" in detail


def test_a_decoder_with_codebooks_of_another_size_than_the_codec_is_refused(tmp_path: Path) -> None:
    changes: Content = {f"decoder__{key}": 60 for key in ("vocab_size", "pad_token_id", "bos_token_id")}
    detail = refuse(tmp_path, lambda: read(tmp_path, **changes))
    assert "the decoder has 4 codebooks of 60 codes, but the codec has 4 of 64" in detail


@pytest.mark.parametrize("part", ["text_encoder", "decoder", "audio_encoder"])
@pytest.mark.parametrize("value", [..., None, [], "t5"], ids=str)
def test_a_missing_part_is_refused_with_its_name(tmp_path: Path, part: str, value: object) -> None:
    content = describe(TINY) | {part: value}
    if value is ...:
        del content[part]
    detail = refuse(tmp_path, lambda: ModelConfig.read(write(tmp_path, content)))
    assert repr(part) in detail


@pytest.mark.parametrize("model_type", ["musicgen_melody", None])
def test_another_model_type_is_refused(tmp_path: Path, model_type: str | None) -> None:
    content = describe(TINY) | {"model_type": model_type}
    detail = refuse(tmp_path, lambda: ModelConfig.read(write(tmp_path, content)))
    assert f"model_type: {model_type!r} is not supported, only 'musicgen' is" in detail


@pytest.mark.parametrize("content", [[], "musicgen", None, 7])
def test_a_file_that_is_not_a_json_object_is_refused(tmp_path: Path, content: object) -> None:
    detail = refuse(tmp_path, lambda: ModelConfig.read(write(tmp_path, content)))
    assert "cannot be read (not a JSON object). Download the model again" in detail


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"model_type": "musicgen"', b"\xff\xfe", b"<!doctype html>"], ids=repr
)
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIGURATION).write_bytes(content)
    assert "cannot be read" in refuse(tmp_path, lambda: ModelConfig.read(tmp_path))


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refuse(tmp_path, lambda: ModelConfig.read(tmp_path))
    (tmp_path / CONFIGURATION).mkdir()
    assert "cannot be read" in refuse(tmp_path, lambda: ModelConfig.read(tmp_path))
