"""Weights give the same tensors under all known names and in all number formats; faults of a file are reported.

With weight norm, the weights of a convolution are vectors, one per index of the first axis. The file has the lengths of
these vectors in one tensor (``original0``), and their directions in another tensor (``original1``).
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from shared.errors import JobFailedError
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.random_model import Size, Spelling, draw, write_random_model
from worker.engines.musicgen.model.tensors import list_tensors
from worker.engines.musicgen.model.weights import Weights

SIZE = Size(
    hidden=16,
    layers=1,
    heads=2,
    feed_forward=32,
    text_hidden=12,
    text_layers=2,
    text_heads=2,
    text_feed_forward=24,
    text_vocabulary=128,
    filters=2,
    codec_hidden=8,
    codebook_size=64,
    ratios=(4, 2),
    sample_rate_hz=4_000,
    positions=64,
)
SEED = 7
FILE = "model.safetensors"
TABLE = "text_encoder.shared.weight"
CONVOLUTION = "audio_encoder.encoder.layers.0.conv.weight"
TRANSPOSED = "audio_encoder.decoder.layers.3.conv.weight"
PROJECTION = "enc_to_dec_proj.weight"

Tensors = dict[str, NDArray[Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_random_model(tmp_path, SIZE, SEED)
    return tmp_path


def compare(folder: Path, tolerance: float = 2e-7) -> None:
    """Compare every tensor, as the model uses it, with the tensor that was drawn for the random model."""
    config = ModelConfig.read(folder)
    weights = Weights.open(folder, config)
    for name, shape in list_tensors(config).items():
        values = weights.read(name)
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        np.testing.assert_allclose(values, draw(name, shape, config, SEED), rtol=tolerance, atol=tolerance)


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(folder / FILE)), folder / FILE)


def refuse(folder: Path) -> str:
    config = ModelConfig.read(folder)
    with pytest.raises(JobFailedError) as caught:
        Weights.open(folder, config)
    assert caught.value.type == "model-invalid"
    return caught.value.detail


@pytest.mark.parametrize("shard_bytes", [None, 20_000])
@pytest.mark.parametrize("spelling", list(Spelling))
def test_both_spellings_are_read_from_one_file_and_from_shards(
    tmp_path: Path, spelling: Spelling, shard_bytes: int | None
) -> None:
    write_random_model(tmp_path, SIZE, SEED, spelling, shard_bytes)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_bytes is not None)
    compare(tmp_path)


def test_weights_without_weight_norm_are_read(folder: Path) -> None:
    config = ModelConfig.read(folder)
    save_file({name: draw(name, shape, config, SEED) for name, shape in list_tensors(config).items()}, folder / FILE)
    compare(folder)


def test_float16_is_read(folder: Path) -> None:
    rewrite(folder, lambda tensors: {name: values.astype(np.float16) for name, values in tensors.items()})
    compare(folder, tolerance=2e-3)


def test_bfloat16_is_read(folder: Path) -> None:
    tensors = load_file(folder / FILE)
    header, parts, offset = {}, [], 0
    for name, values in tensors.items():
        # Half of the last kept bit is added before the lower 16 bits are cut off: this rounds to the nearest value.
        half = ((values.view(np.uint32) + 0x8000) >> 16).astype("<u2")
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [offset, offset + half.nbytes]}
        parts.append(half.tobytes())
        offset += half.nbytes
    text = json.dumps(header).encode()
    (folder / FILE).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    compare(folder, tolerance=1.2e-2)


def test_the_embeddings_of_the_text_encoder_are_read_under_their_other_name(folder: Path) -> None:
    rewrite(
        folder,
        lambda tensors: {
            name.replace("text_encoder.shared", "text_encoder.encoder.embed_tokens"): values
            for name, values in tensors.items()
        },
    )
    assert TABLE not in load_file(folder / FILE)
    compare(folder)


def test_tensors_that_the_model_does_not_need_are_ignored(folder: Path) -> None:
    extra = {
        "decoder.model.decoder.embed_positions.weights": np.zeros((64, 16), np.float32),
        "audio_encoder.quantizer.layers.0.codebook.inited": np.ones(1, np.bool_),
        "audio_encoder.quantizer.layers.0.codebook.cluster_size": np.zeros(64, np.float64),
    }
    rewrite(folder, lambda tensors: tensors | extra)
    compare(folder)


def test_weight_norm_is_applied_along_the_first_axis_of_both_types_of_convolution(folder: Path) -> None:
    stems = (CONVOLUTION.removesuffix("weight"), TRANSPOSED.removesuffix("weight"))
    lengths = {f"{stem}parametrizations.weight.original0": float(number + 2) for number, stem in enumerate(stems)}
    rewrite(
        folder,
        lambda tensors: {name: np.full_like(a, lengths[name]) if name in lengths else a for name, a in tensors.items()},
    )
    weights = Weights.open(folder, ModelConfig.read(folder))
    for name, length in zip((CONVOLUTION, TRANSPOSED), lengths.values(), strict=True):
        values = weights.read(name)
        np.testing.assert_allclose(np.linalg.norm(values.reshape(len(values), -1), axis=1), length, rtol=1e-6)


def test_a_missing_tensor_is_reported(folder: Path) -> None:
    rewrite(folder, lambda tensors: {name: values for name, values in tensors.items() if name != PROJECTION})
    assert repr(PROJECTION) in refuse(folder)


def test_a_convolution_without_the_lengths_of_its_weights_is_reported(folder: Path) -> None:
    half = CONVOLUTION.replace("weight", "parametrizations.weight.original0")
    rewrite(folder, lambda tensors: {name: values for name, values in tensors.items() if name != half})
    assert repr(CONVOLUTION) in refuse(folder)


def test_a_tensor_of_a_wrong_shape_is_reported_with_both_shapes(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors | {PROJECTION: np.zeros((16, 13), np.float32)})
    detail = refuse(folder)
    assert repr(PROJECTION) in detail
    assert "[16, 13]" in detail
    assert "[16, 12]" in detail


def test_lengths_of_a_wrong_shape_are_reported(folder: Path) -> None:
    length = CONVOLUTION.replace("weight", "parametrizations.weight.original0")
    rewrite(folder, lambda tensors: tensors | {length: np.ones((1, 1, 7), np.float32)})
    assert repr(length) in refuse(folder)


def test_an_unsupported_number_format_is_reported(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors | {PROJECTION: np.zeros((16, 12), np.int8)})
    detail = refuse(folder)
    assert repr(PROJECTION) in detail
    assert "I8" in detail


@pytest.mark.parametrize("keep_bytes", [0, 7, 100, -1])
def test_a_truncated_file_is_reported(folder: Path, keep_bytes: int) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:keep_bytes])
    detail = refuse(folder)
    assert str(folder / FILE) in detail
    assert "download the model again" in detail


def test_a_file_that_is_not_safetensors_is_reported(folder: Path) -> None:
    (folder / FILE).write_text("<!doctype html><title>Sign in to the network</title>")
    assert str(folder / FILE) in refuse(folder)


def test_a_missing_shard_is_reported(tmp_path: Path) -> None:
    write_random_model(tmp_path, SIZE, SEED, shard_bytes=20_000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    detail = refuse(tmp_path)
    assert str(shard) in detail
    assert "is missing" in detail


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": [1]}}',
        '{"weight_map": {"a": "../x.safetensors"}}',
    ],
)
def test_an_unreadable_index_is_reported(tmp_path: Path, index: str) -> None:
    write_random_model(tmp_path, SIZE, SEED, shard_bytes=20_000)
    (tmp_path / f"{FILE}.index.json").write_text(index)
    assert f"{FILE}.index.json cannot be read" in refuse(tmp_path)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "state_dict.bin", "model.pt"])
def test_pickles_are_refused_and_the_error_explains_the_conversion(folder: Path, pickle: str) -> None:
    (folder / FILE).rename(folder / pickle)
    detail = refuse(folder)
    assert pickle in detail
    assert "any code" in detail
    assert "safe_serialization=True" in detail


def test_a_folder_without_weights_is_reported(folder: Path) -> None:
    (folder / FILE).unlink()
    assert f"{FILE} is missing" in refuse(folder)
