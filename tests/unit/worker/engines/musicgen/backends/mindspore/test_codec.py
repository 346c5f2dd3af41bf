"""EnCodec in windows of fixed shapes against transformers' in one piece, and against itself uncut."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobStoppedError
from tests.references.musicgen_cases import (
    CASES,
    CLASSIC,
    CODEC_CASES,
    MONO,
    SHORTCUT,
    STEREO,
    STRIDES,
    Case,
    Clip,
    CodecCase,
    Model,
)
from worker.engines.musicgen.backends.mindspore import codec as codec_module
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.lstm import LONG, SHORT, CompiledLstm, exchange_gates
from worker.engines.musicgen.codec.rvq import quantise
from worker.engines.musicgen.codec.windows import MAX_SMALL_FACTOR, cut, measure_reach
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.seanet import Lstm, list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.model.weights import Weights

Array = NDArray[Any]
Load = Callable[[Model], Codec]
Open = Callable[[Model], tuple[ModelConfig, Weights]]

TOLERANCE = 1e-4
MODELS = {"mono": MONO, "classic": CLASSIC, "shortcut": SHORTCUT, "strides": STRIDES}


@pytest.fixture(scope="module")
def open_weights(tmp_path_factory: pytest.TempPathFactory) -> Open:

    @cache
    def open_model(model: Model) -> tuple[ModelConfig, Weights]:
        folder = tmp_path_factory.mktemp("model")
        model.write(folder)
        config = ModelConfig.read(folder)
        return config, Weights.open(folder, config)

    return open_model


@pytest.fixture(scope="module")
def load(open_weights: Open) -> Load:
    @cache
    def load_codec(model: Model) -> Codec:
        config, weights = open_weights(model)
        return Codec(config.codec, weights, Target())

    return load_codec


@pytest.fixture
def load_uncut(open_weights: Open, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a codec whose windows hold all that the tests have."""

    def load_codec(model: Model) -> Codec:
        config, weights = open_weights(model)
        monkeypatch.setattr(codec_module, "SMALL_FRAMES", 256)
        return Codec(config.codec, weights, Target())

    return load_codec


def deviate(audio: Array, reference: Array) -> float:
    """Return the largest difference, relative to what is loudest."""
    assert audio.shape == reference.shape
    assert audio.dtype == np.float32
    return float(np.abs(audio - reference).max() / np.abs(reference).max())


def draw_codes(model: Model, frames: int) -> NDArray[np.int16]:
    size = model.size
    shape = (size.codebooks, frames)
    return np.random.default_rng(frames).integers(size.codebook_size, size=shape, dtype=np.int16)


@pytest.mark.parametrize("case", CODEC_CASES, ids=lambda case: case.name)
def test_clips_become_the_codes_that_transformers_makes(case: CodecCase, load: Load) -> None:
    arrays = case.read()
    for index, clip in enumerate(case.make_clips()):
        codes = load(case.model).encode(clip[0])
        assert codes.dtype == np.int16
        np.testing.assert_array_equal(codes, arrays[f"codes_{index}"], err_msg=f"of {clip.shape[1]} samples")


@pytest.mark.parametrize("case", CODEC_CASES, ids=lambda case: case.name)
def test_codes_become_the_audio_that_transformers_makes(case: CodecCase, load: Load) -> None:
    arrays = case.read()
    for index, codes in enumerate(case.make_codes()):
        assert deviate(load(case.model).decode(codes), arrays[f"audio_{index}"]) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_generated_codes_become_the_audio_that_transformers_makes(case: Case, load: Load) -> None:
    arrays = case.read()
    codec, channels = load(case.model), case.model.size.channels
    for codes, audio in zip(arrays["codes"], arrays["audio"], strict=True):
        for channel in range(channels):
            assert deviate(codec.decode(codes[channel::channels]), audio[channel]) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.clips], ids=lambda case: case.name)
def test_prompts_become_the_codes_that_transformers_makes(case: Case, load: Load) -> None:
    arrays = case.read()
    codec, channels = load(case.model), case.model.size.channels
    for clip, padding, codes in zip(case.make_clips(), arrays["padding_samples"], arrays["prompt_codes"], strict=True):
        for channel in range(channels):
            padded = np.pad(clip[channel], (padding, 0))
            np.testing.assert_array_equal(codec.encode(padded), codes[channel::channels])


@pytest.mark.parametrize("name", MODELS)
def test_windows_cannot_be_heard(name: str, load: Load, load_uncut: Load) -> None:
    model = MODELS[name]
    windowed, uncut = load(model), load_uncut(model)
    hop = math.prod(model.size.ratios)
    for frames in (15, 16, 17, 30, 31, 48, 49, 63, 64, 65, 78, 79, 127, 190, 251):
        codes = draw_codes(model, frames)
        assert deviate(windowed.decode(codes), uncut.decode(codes)) < TOLERANCE
        clip = Clip(frames * hop - frames % hop, frames).make(model.size, 1)[0]
        np.testing.assert_array_equal(windowed.encode(clip), uncut.encode(clip))


def test_no_length_brings_a_new_shape(open_weights: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each shape that it has not met, MindSpore takes time, and memory for good."""
    config, weights = open_weights(MONO)
    codec = Codec(config.codec, weights, Target())
    met: set[tuple[int, ...]] = set()
    send = Target.send

    def watch(target: Target, values: NDArray[np.float32]) -> Any:
        met.add(values.shape)
        return send(target, values)

    def compute(frames: int) -> None:
        codec.decode(draw_codes(MONO, frames))
        codec.encode(np.zeros(frames * config.codec.hop - frames % 3, dtype=np.float32))

    monkeypatch.setattr(Target, "send", watch)
    for frames in (20, 600):
        compute(frames)
    before = met.copy()
    for frames in (1, 2, 17, 33, 50, 64, 111, 222, 389, 555):
        compute(frames)
    assert met == before


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_every_frame_is_kept_once_and_away_from_cuts(reach: int) -> None:
    small, large = 16, 64
    for frames in range(1, 400):
        windows = list(cut(frames, small, large, reach))
        kept = [frame for window in windows for frame in range(window.kept_start, window.kept_stop)]
        assert kept == list(range(frames))
        for window in windows:
            length = window.stop - window.start
            assert length == min(small, frames) if window.size == small else small < length <= large
            assert window.start == 0 or window.kept_start - window.start >= reach
            assert window.stop == frames or window.stop - window.kept_stop >= reach
        # Small windows take only what no large one is worth while for.
        assert sum(window.size == small for window in windows) <= 2 * MAX_SMALL_FACTOR


def test_cuts_are_felt_as_far_as_the_reach_and_no_further(load_uncut: Load) -> None:
    after = load_uncut(STRIDES)._decoder._after
    hop = math.prod(STRIDES.size.ratios)
    size = STRIDES.size.filters * 2 ** len(STRIDES.size.ratios)
    x = np.random.default_rng(0).standard_normal((60, size), dtype=np.float32)
    whole, cut_off = (after.compute(signal, lambda: None)[:, 0] for signal in (x, x[20:]))
    differing = np.flatnonzero(np.abs(whole[20 * hop :] - cut_off) > 1e-6)
    reach = measure_reach(after._layers)
    assert reach - 20 < differing.max() < reach


def test_the_published_codecs_windows_overlap_by_a_frame_on_each_side(open_weights: Open) -> None:
    config = open_weights(STRIDES)[0].codec
    layers = list_encoder_layers(config)[:-2], list_decoder_layers(config)[2:]
    reaches = [measure_reach([layer for layer in half if not isinstance(layer, Lstm)]) for half in layers]
    # Frames, and samples: ((((0 * 8 + 4) + 1) * 5 + 3 + 1) * 4 + 2 + 1) * 4 + 2 + 1 + 3
    assert reaches == [1, 482]


@pytest.mark.parametrize(
    ("frames", "stretches"),
    [(1, 1), (SHORT, 1), (SHORT + 1, 2), (LONG - SHORT, 3), (LONG - SHORT + 1, 1), (LONG, 1), (LONG + SHORT + 7, 3)],
)
def test_the_lstm_goes_on_from_stretch_to_stretch(frames: int, stretches: int, open_weights: Open) -> None:
    config, weights = open_weights(MONO)
    (layer,) = (layer for layer in list_decoder_layers(config.codec) if isinstance(layer, Lstm))
    x = np.random.default_rng(frames).standard_normal((frames, layer.size), dtype=np.float32)
    told: list[None] = []
    y = CompiledLstm(layer, weights, Target()).compute(x, lambda: told.append(None))
    np.testing.assert_allclose(y, x + run_lstm(layer, weights, x), atol=1e-5)
    assert len(told) == stretches


def run_lstm(layer: Lstm, weights: Weights, x: Array) -> Array:
    """Run it step by step in double precision, with the gates as PyTorch has them."""
    names = [name for name, _ in layer.list_tensors()]
    y = x.astype(np.float64)
    for first in range(0, len(names), 4):
        inner, recurrent, bias, other_bias = (
            weights.read(name).astype(np.float64) for name in names[first : first + 4]
        )
        hidden = cell = np.zeros(layer.size)
        rows = []
        for row in y:
            gates = np.split(inner @ row + recurrent @ hidden + bias + other_bias, 4)
            entry, forget, out = (1 / (1 + np.exp(-gates[index])) for index in (0, 1, 3))
            cell = forget * cell + entry * np.tanh(gates[2])
            hidden = out * np.tanh(cell)
            rows.append(hidden)
        y = np.array(rows)
    return y


def test_ascend_has_the_cell_gate_before_the_forget_gate() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(exchange_gates(rows)[:, 0], [0, 1, 4, 5, 2, 3, 6, 7])


def test_each_codebook_takes_the_nearest_to_what_is_left() -> None:
    random = np.random.default_rng(0)
    embeddings = [random.standard_normal((32, 5), dtype=np.float32) / 2**index for index in range(3)]
    states = random.standard_normal((50, 5), dtype=np.float32)
    left = states.astype(np.float64)
    for indices, embedding in zip(quantise(states, embeddings), embeddings, strict=True):
        np.testing.assert_array_equal(indices, np.linalg.norm(left[:, None] - embedding, axis=-1).argmin(axis=1))
        left -= embedding[indices]


def test_of_equally_near_vectors_the_first_is_taken() -> None:
    embedding = np.array([[3, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(quantise(np.zeros((2, 2), dtype=np.float32), [embedding]), [[1, 1]])


@pytest.mark.parametrize("work", ["decode", "encode"])
def test_work_is_told_of_between_windows_and_can_be_stopped_there(work: str, load: Load) -> None:
    codec = load(MONO)
    given = draw_codes(MONO, 300) if work == "decode" else np.zeros(2_400, dtype=np.float32)
    told: list[None] = []
    getattr(codec, work)(given, lambda: told.append(None))
    assert len(told) >= 10
    told.clear()

    def stop() -> None:
        told.append(None)
        if len(told) == 2:
            raise JobStoppedError("stop")

    with pytest.raises(JobStoppedError):
        getattr(codec, work)(given, stop)
    assert len(told) == 2


def test_half_precision_stays_near(open_weights: Open, load: Load) -> None:
    """The CPU computes in it as well, only slowly."""
    config, weights = open_weights(STEREO)
    codes = draw_codes(STEREO, 40)
    audio = Codec(config.codec, weights, Target(precision="float16")).decode(codes)
    assert 0 < deviate(audio, load(STEREO).decode(codes)) < 1e-2
