"""EnCodec in MindSpore, which cuts a signal into windows of fixed shapes.

The results are compared with those of transformers, and with those of a codec whose only window contains the whole
signal. The reach of convolutions is the distance up to which a cut of the signal influences their output.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobStoppedError
from shared.texts import text
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
from tests.unit.worker.engines.musicgen.conftest import Write
from worker.engines.musicgen.backends.mindspore import codec as codec_module
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.codec.windows import measure_reach
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.seanet import Lstm, list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.model.weights import Weights

Array = NDArray[Any]
LoadCodec = Callable[[Model], Codec]
OpenModel = Callable[[Model], tuple[ModelConfig, Weights]]

TOLERANCE = 1e-4
MODELS = {"mono": MONO, "classic": CLASSIC, "shortcut": SHORTCUT, "strides": STRIDES}


@pytest.fixture(scope="module")
def open_model(write_model: Write) -> OpenModel:
    def open_written(model: Model) -> tuple[ModelConfig, Weights]:
        folder = write_model(model)
        config = ModelConfig.read(folder)
        return config, Weights.open(folder, config)

    return open_written


@pytest.fixture(scope="module")
def load_codec(open_model: OpenModel) -> LoadCodec:
    @cache
    def load(model: Model) -> Codec:
        config, weights = open_model(model)
        return Codec(config.codec, weights, Target())

    return load


@pytest.fixture
def load_one_window(open_model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> LoadCodec:
    """Return a function that loads a codec whose windows are longer than all signals of the tests."""

    def load(model: Model) -> Codec:
        config, weights = open_model(model)
        monkeypatch.setattr(codec_module, "SMALL_FRAMES", 256)
        return Codec(config.codec, weights, Target())

    return load


def compute_error(audio: Array, reference: Array) -> float:
    """Compute the largest difference, relative to the largest value of the reference."""
    assert audio.shape == reference.shape
    assert audio.dtype == np.float32
    return float(np.abs(audio - reference).max() / np.abs(reference).max())


def draw_codes(model: Model, frames: int) -> NDArray[np.int16]:
    size = model.size
    shape = (size.codebooks, frames)
    return np.random.default_rng(frames).integers(size.codebook_size, size=shape, dtype=np.int16)


@pytest.mark.parametrize("case", CODEC_CASES, ids=lambda case: case.name)
def test_encode_returns_the_codes_of_transformers(case: CodecCase, load_codec: LoadCodec) -> None:
    arrays = case.read()
    for index, clip in enumerate(case.make_clips()):
        codes = load_codec(case.model).encode(clip[0])
        assert codes.dtype == np.int16
        np.testing.assert_array_equal(codes, arrays[f"codes_{index}"], err_msg=f"of {clip.shape[1]} samples")


@pytest.mark.parametrize("case", CODEC_CASES, ids=lambda case: case.name)
def test_decode_returns_the_audio_of_transformers(case: CodecCase, load_codec: LoadCodec) -> None:
    arrays = case.read()
    for index, codes in enumerate(case.make_codes()):
        assert compute_error(load_codec(case.model).decode(codes), arrays[f"audio_{index}"]) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_decode_returns_the_audio_of_transformers_for_generated_codes(case: Case, load_codec: LoadCodec) -> None:
    arrays = case.read()
    codec, channels = load_codec(case.model), case.model.size.channels
    for codes, audio in zip(arrays["codes"], arrays["audio"], strict=True):
        for channel in range(channels):
            assert compute_error(codec.decode(codes[channel::channels]), audio[channel]) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.clips], ids=lambda case: case.name)
def test_encode_returns_the_codes_of_transformers_for_padded_clips(case: Case, load_codec: LoadCodec) -> None:
    arrays = case.read()
    codec, channels = load_codec(case.model), case.model.size.channels
    for clip, padding, codes in zip(case.make_clips(), arrays["padding_samples"], arrays["prompt_codes"], strict=True):
        for channel in range(channels):
            padded = np.pad(clip[channel], (padding, 0))
            np.testing.assert_array_equal(codec.encode(padded), codes[channel::channels])


@pytest.mark.parametrize("name", MODELS)
def test_result_in_windows_agrees_with_the_result_in_one_window(
    name: str, load_codec: LoadCodec, load_one_window: LoadCodec
) -> None:
    model = MODELS[name]
    windowed, whole = load_codec(model), load_one_window(model)
    hop = math.prod(model.size.ratios)
    for frames in (15, 16, 17, 30, 31, 48, 49, 63, 64, 65, 78, 79, 127, 190, 251):
        codes = draw_codes(model, frames)
        assert compute_error(windowed.decode(codes), whole.decode(codes)) < TOLERANCE
        clip = Clip(frames * hop - frames % hop, frames).make(model.size, 1)[0]
        np.testing.assert_array_equal(windowed.encode(clip), whole.encode(clip))


def test_a_signal_of_another_length_needs_no_new_shape(open_model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each new shape, MindSpore needs time to compile, and memory that is never freed."""
    config, weights = open_model(MONO)
    codec = Codec(config.codec, weights, Target())
    shapes: set[tuple[int, ...]] = set()
    to_tensor = Target.to_tensor

    def record_shape(target: Target, values: NDArray[np.float32]) -> Any:
        shapes.add(values.shape)
        return to_tensor(target, values)

    def compute(frames: int) -> None:
        codec.decode(draw_codes(MONO, frames))
        codec.encode(np.zeros(frames * config.codec.hop - frames % 3, dtype=np.float32))

    monkeypatch.setattr(Target, "to_tensor", record_shape)
    for frames in (20, 600):
        compute(frames)
    before = shapes.copy()
    for frames in (1, 2, 17, 33, 50, 64, 111, 222, 389, 555):
        compute(frames)
    assert shapes == before


def test_a_cut_influences_the_output_only_within_the_reach(load_one_window: LoadCodec) -> None:
    after = load_one_window(STRIDES)._decoder._after
    hop = math.prod(STRIDES.size.ratios)
    size = STRIDES.size.filters * 2 ** len(STRIDES.size.ratios)
    x = np.random.default_rng(0).standard_normal((60, size), dtype=np.float32)
    whole, cut_off = (after.compute(signal, lambda: None)[:, 0] for signal in (x, x[20:]))
    differing = np.flatnonzero(np.abs(whole[20 * hop :] - cut_off) > 1e-6)
    reach = measure_reach(after._layers)
    assert reach - 20 < differing.max() < reach


def test_windows_of_the_published_codec_overlap_by_one_frame_on_each_side(open_model: OpenModel) -> None:
    config = open_model(STRIDES)[0].codec
    layers = list_encoder_layers(config)[:-2], list_decoder_layers(config)[2:]
    reaches = [measure_reach([layer for layer in half if not isinstance(layer, Lstm)]) for half in layers]
    # The reach of the encoder is in frames, and the reach of the decoder in samples. For the decoder:
    # reach = ((((0 * 8 + 4) + 1) * 5 + 3 + 1) * 4 + 2 + 1) * 4 + 2 + 1 + 3 samples
    assert reaches == [1, 482]


@pytest.mark.parametrize("method", ["decode", "encode"])
def test_progress_is_reported_between_windows_and_can_stop_the_work(method: str, load_codec: LoadCodec) -> None:
    codec = load_codec(MONO)
    given = draw_codes(MONO, 300) if method == "decode" else np.zeros(2_400, dtype=np.float32)
    reports: list[None] = []
    getattr(codec, method)(given, lambda: reports.append(None))
    assert len(reports) >= 10
    reports.clear()

    def stop() -> None:
        reports.append(None)
        if len(reports) == 2:
            raise JobStoppedError(text("cancelled"))

    with pytest.raises(JobStoppedError):
        getattr(codec, method)(given, stop)
    assert len(reports) == 2


def test_half_precision_is_near_to_full_precision(open_model: OpenModel, load_codec: LoadCodec) -> None:
    """The CPU, too, can compute in half precision, although slowly."""
    config, weights = open_model(STEREO)
    codes = draw_codes(STEREO, 40)
    audio = Codec(config.codec, weights, Target(precision="float16")).decode(codes)
    assert 0 < compute_error(audio, load_codec(STEREO).decode(codes)) < 1e-2
