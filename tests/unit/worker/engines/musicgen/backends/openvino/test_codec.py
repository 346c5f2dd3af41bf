"""EnCodec on OpenVINO, which cuts a signal into windows.

The results are compared with those of transformers, of MindSpore, and of a codec whose only window contains the whole
signal. The reach of convolutions is the distance up to which a cut of the signal influences their output.
"""

import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from shared.database.migrate import ROOT
from shared.errors import JobStoppedError
from shared.texts import text
from tests.references.musicgen_cases import (
    CASES,
    CLASSIC,
    CODEC_CASES,
    MONO,
    SHORTCUT,
    STRIDES,
    Case,
    Clip,
    CodecCase,
    Model,
)
from tests.unit.worker.engines.musicgen.conftest import Write
from tests.unit.worker.engines.musicgen.model_shapes import CODEC
from worker.engines.musicgen.backends.mindspore.codec import Codec as MindSporeCodec
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.openvino import codec as codec_module
from worker.engines.musicgen.backends.openvino.codec import SEGMENT_FRAMES, Codec
from worker.engines.musicgen.backends.openvino.graph_cache import GraphCompiler, LockedGraph
from worker.engines.musicgen.model.configuration import CodecConfig, ModelConfig
from worker.engines.musicgen.model.seanet import list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.model.weights import Weights

Array = NDArray[Any]
Codes = NDArray[np.int16]
LoadCodec = Callable[[Model], Codec]
OpenCodec = Callable[[Model, Path], Codec]

TOLERANCE = 1e-4
WINDOWS_TOLERANCE = 1e-5
MODELS = {"mono": MONO, "classic": CLASSIC, "shortcut": SHORTCUT, "strides": STRIDES}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_codec_case = pytest.mark.parametrize("case", CODEC_CASES, ids=lambda case: case.name)


def ignore_progress() -> None:
    """Do nothing."""


@pytest.fixture(scope="session")
def open_codec(write_model: Write) -> OpenCodec:
    def open_with_cache(model: Model, cache_folder: Path) -> Codec:
        folder = write_model(model)
        config = ModelConfig.read(folder)
        return Codec(config.codec, Weights.open(folder, config), GraphCompiler(folder, "float32", cache_folder))

    return open_with_cache


@pytest.fixture(scope="session")
def load_codec(open_codec: OpenCodec, tmp_path_factory: pytest.TempPathFactory) -> LoadCodec:
    """Return a function that loads a codec; each codec is loaded once for all tests."""
    cache_folder: Path = tmp_path_factory.mktemp("compiled")
    return cache(lambda model: open_codec(model, cache_folder))


@pytest.fixture(scope="module")
def load_small_windows(open_codec: OpenCodec, tmp_path_factory: pytest.TempPathFactory) -> LoadCodec:
    """Return a function that loads a codec whose windows are as small as possible; each codec is loaded once."""
    return make_loader(open_codec, tmp_path_factory.mktemp("compiled"), window_s=0)


@pytest.fixture(scope="module")
def load_one_window(open_codec: OpenCodec, tmp_path_factory: pytest.TempPathFactory) -> LoadCodec:
    """Return a function that loads a codec whose windows are longer than all signals; each codec is loaded once."""
    return make_loader(open_codec, tmp_path_factory.mktemp("compiled"), window_s=4)


def make_loader(open_codec: OpenCodec, cache_folder: Path, window_s: int) -> LoadCodec:
    """Return a function that loads codecs, including the encoder, with another value of ``codec.WINDOW_S``."""

    @cache
    def load(model: Model) -> Codec:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec_module, "WINDOW_S", window_s)
            codec = open_codec(model, cache_folder)
            codec.encode(np.zeros(1, dtype=np.float32), ignore_progress)
        return codec

    return load


def compute_error(audio: Array, reference: Array) -> float:
    """Compute the largest difference, relative to the largest value of the reference."""
    assert audio.shape == reference.shape
    assert audio.dtype == np.float32
    return float(np.abs(audio - reference).max() / np.abs(reference).max())


def draw_codes(codebooks: int, size: int, frames: int) -> Codes:
    return np.random.default_rng(frames).integers(size, size=(codebooks, frames), dtype=np.int16)


def draw_model_codes(model: Model, frames: int) -> Codes:
    return draw_codes(model.size.codebooks, model.size.codebook_size, frames)


@each_codec_case
def test_encode_returns_the_codes_of_transformers(case: CodecCase, load_codec: LoadCodec) -> None:
    arrays = case.read()
    for index, clip in enumerate(case.make_clips()):
        codes = load_codec(case.model).encode(clip[0], ignore_progress)
        assert codes.dtype == np.int16
        np.testing.assert_array_equal(codes, arrays[f"codes_{index}"], err_msg=f"of {clip.shape[1]} samples")


@each_codec_case
def test_decode_returns_the_audio_of_transformers(case: CodecCase, load_codec: LoadCodec) -> None:
    arrays = case.read()
    for index, codes in enumerate(case.make_codes()):
        assert (
            compute_error(load_codec(case.model).decode(codes, ignore_progress), arrays[f"audio_{index}"]) < TOLERANCE
        )


@each_case
def test_decode_returns_the_audio_of_transformers_for_generated_codes(case: Case, load_codec: LoadCodec) -> None:
    arrays = case.read()
    codec, channels = load_codec(case.model), case.model.size.channels
    for codes, audio in zip(arrays["codes"], arrays["audio"], strict=True):
        for channel in range(channels):
            assert compute_error(codec.decode(codes[channel::channels], ignore_progress), audio[channel]) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.clips], ids=lambda case: case.name)
def test_encode_returns_the_codes_of_transformers_for_padded_clips(case: Case, load_codec: LoadCodec) -> None:
    arrays = case.read()
    codec, channels = load_codec(case.model), case.model.size.channels
    for clip, padding, codes in zip(case.make_clips(), arrays["padding_samples"], arrays["prompt_codes"], strict=True):
        for channel in range(channels):
            padded = np.pad(clip[channel], (padding, 0))
            np.testing.assert_array_equal(codec.encode(padded, ignore_progress), codes[channel::channels])


@pytest.mark.parametrize("name", MODELS)
def test_result_in_windows_agrees_with_the_result_in_one_window(
    name: str, load_codec: LoadCodec, load_small_windows: LoadCodec, load_one_window: LoadCodec
) -> None:
    model = MODELS[name]
    whole = load_one_window(model)
    # Usual windows have 404 and 406 frames (with the model "strides": 52 and 56). The smallest windows have 8 and 12
    # frames (with "strides": 4 and 12). The segments of the LSTM have 128 frames.
    for frames in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 51, 52, 53, 101, 102, 103, 127, 128, 129, 150):
        codes = draw_model_codes(model, frames)
        audio = whole.decode(codes, ignore_progress)
        hop = whole._config.hop
        clip = Clip(frames * hop - frames % hop, frames).make(model.size, 1)[0]
        for windowed in (load_codec(model), load_small_windows(model)):
            assert compute_error(windowed.decode(codes, ignore_progress), audio) < WINDOWS_TOLERANCE
            np.testing.assert_array_equal(
                windowed.encode(clip, ignore_progress),
                whole.encode(clip, ignore_progress),
                err_msg=f"of {frames} frames",
            )


def test_long_music_in_windows_of_the_usual_size_agrees_with_one_window(
    load_codec: LoadCodec, load_one_window: LoadCodec
) -> None:
    codes = draw_model_codes(MONO, 1_600)
    audio, whole = (load(MONO).decode(codes, ignore_progress) for load in (load_codec, load_one_window))
    assert compute_error(audio, whole) < WINDOWS_TOLERANCE


def test_windows_extend_beyond_the_kept_frames_by_the_reach_on_each_side(
    load_one_window: LoadCodec, load_small_windows: LoadCodec
) -> None:
    # The reach is 1 frame for the encoder's layers before the LSTM and for the decoder's layers after the LSTM. For the
    # other convolutions, the reach is 3 frames.
    parts = [
        half._before if before else half._after for half in list_halves(load_one_window(STRIDES)) for before in (1, 0)
    ]
    assert [part._frames for part in parts] == [202, 206, 206, 202]
    parts = [
        half._before if before else half._after
        for half in list_halves(load_small_windows(STRIDES))
        for before in (1, 0)
    ]
    assert [part._frames for part in parts] == [4, 12, 12, 4]


def list_halves(codec: Codec) -> list[codec_module._CodecHalf]:
    assert codec._encoder is not None
    return [codec._encoder, codec._decoder]


@pytest.mark.parametrize("frames", [1, 7, 64])
def test_lstm_states_are_passed_from_segment_to_segment(
    frames: int, load_codec: LoadCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = draw_model_codes(MONO, SEGMENT_FRAMES)
    whole = load_codec(MONO).decode(codes, ignore_progress)
    monkeypatch.setattr(codec_module, "SEGMENT_FRAMES", frames)
    assert compute_error(load_codec(MONO).decode(codes, ignore_progress), whole) < WINDOWS_TOLERANCE


def test_a_signal_of_another_length_needs_no_new_shape_of_windows(
    load_codec: LoadCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals of any length are cut into windows of the same shapes, since each graph is compiled for one shape."""
    codec = load_codec(STRIDES)
    shapes: set[tuple[int, ...]] = set()
    compute = LockedGraph.compute

    def record_shape(graph: LockedGraph, inputs: dict[str, Array]) -> list[Array]:
        shapes.add(inputs[codec_module.SIGNAL].shape)
        return compute(graph, inputs)

    monkeypatch.setattr(LockedGraph, "compute", record_shape)
    for frames in (1, 2, 30, 51, 52, 53, 389):
        codec.decode(draw_model_codes(STRIDES, frames), ignore_progress)
        codec.encode(np.zeros(frames * 640 - frames % 3, dtype=np.float32), ignore_progress)
    windows = {shape for shape in shapes if len(shape) == 3}
    assert windows == {(1, 56, 16), (1, 52, 64), (1, 52 * 640, 1), (1, 56, 64)}
    assert max(length for length, _ in shapes - windows) == SEGMENT_FRAMES


@pytest.mark.parametrize("stop_at", [0, 1, 3, 6, 9])
def test_work_can_be_stopped_between_windows_and_segments(stop_at: int, load_codec: LoadCodec) -> None:
    codec, codes = load_codec(STRIDES), draw_model_codes(STRIDES, 200)
    audio = np.zeros(200 * 640, dtype=np.float32)
    whole = codec.decode(codes, ignore_progress)
    computes: list[Callable[[Callable[[], None]], object]] = [
        lambda on_progress: codec.decode(codes, on_progress),
        lambda on_progress: codec.encode(audio, on_progress),
    ]
    for compute in computes:
        reports: list[None] = []

        def stop(reports: list[None] = reports) -> None:
            reports.append(None)
            if len(reports) > stop_at:
                raise JobStoppedError(text("cancelled"))

        with pytest.raises(JobStoppedError):
            compute(stop)
        assert len(reports) == stop_at + 1
        reports.clear()
        compute(lambda reports=reports: reports.append(None))  # type: ignore[misc]
        assert len(reports) == 4 + 2 + 4
    np.testing.assert_array_equal(codec.decode(codes, ignore_progress), whole)


def test_several_threads_can_use_a_codec(open_codec: OpenCodec, tmp_path: Path) -> None:
    codec = open_codec(STRIDES, tmp_path)
    threads = 4
    tasks = [draw_model_codes(STRIDES, 60 + 31 * index) for index in range(threads)]
    clips = [Clip(20_000 + 7_001 * index, index).make(STRIDES.size, 1)[0] for index in range(threads)]
    barrier = threading.Barrier(2 * threads)

    def wait_and_compute(compute: Callable[[], Array]) -> list[Array]:
        barrier.wait()
        return [compute() for _ in range(3)]

    with ThreadPoolExecutor(2 * threads) as pool:
        # The encoder is loaded when it is first needed. Here, all encoding threads need it at the same time.
        encoding = [pool.submit(wait_and_compute, partial(codec.encode, clip, ignore_progress)) for clip in clips]
        decoding = [pool.submit(wait_and_compute, partial(codec.decode, codes, ignore_progress)) for codes in tasks]
    for future, clip in zip(encoding, clips, strict=True):
        for codes in future.result():
            np.testing.assert_array_equal(codes, codec.encode(clip, ignore_progress))
    for future, task in zip(decoding, tasks, strict=True):
        for audio in future.result():
            np.testing.assert_array_equal(audio, codec.decode(task, ignore_progress))


def test_encoder_is_loaded_when_audio_is_first_encoded(
    open_codec: OpenCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    compile_graph = GraphCompiler.compile

    def record_name(compiler: GraphCompiler, name: str, *arguments: Any) -> Any:
        loaded.append(name)
        return compile_graph(compiler, name, *arguments)

    monkeypatch.setattr(GraphCompiler, "compile", record_name)
    codec = open_codec(MONO, tmp_path)
    parts = ["after", "before", "lstm"]
    assert sorted(loaded) == [f"decoder-{part}" for part in parts]
    for _ in range(2):
        codec.encode(np.zeros(100, dtype=np.float32), ignore_progress)
        assert sorted(loaded[3:]) == [f"encoder-{part}" for part in parts]


def test_graphs_are_built_once(
    open_codec: OpenCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes = draw_model_codes(MONO, 20)

    def compute() -> Iterable[Array]:
        codec = open_codec(MONO, tmp_path)
        audio = codec.decode(codes, ignore_progress)
        return audio, codec.encode(audio, ignore_progress)

    def refuse(*_: object) -> None:
        raise AssertionError("the graph is built again")

    first = compute()
    monkeypatch.setattr(codec_module.ConvolutionGraphBuilder, "build", refuse)
    monkeypatch.setattr(codec_module, "build_lstm", refuse)
    for again, once in zip(compute(), first, strict=True):
        np.testing.assert_array_equal(again, once)
    assert caplog.messages == []
    open_codec(MONO, tmp_path)
    with pytest.raises(AssertionError, match="built again"):
        open_codec(CLASSIC, tmp_path)


class RandomWeights:
    """Random weights of a codec of any shape, without a file."""

    def __init__(self, config: CodecConfig) -> None:
        layers = [*list_encoder_layers(config), *list_decoder_layers(config)]
        self._shapes = dict(pair for layer in layers for pair in layer.list_tensors())
        self._codebook = (config.codebook_size, config.hidden)

    def read(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes.get(name, self._codebook)
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
        return values / np.float32(np.sqrt(np.prod(shape[1:]) / 2)) if len(shape) > 1 else values * np.float32(0.1)


class UncachedCompiler(GraphCompiler):
    """A compiler that does not store graphs."""

    def __init__(self) -> None:
        pass

    def compile(self, name: str, build: Callable[[], ov.Model], annotate: object = None) -> Any:
        """Compile a graph."""
        assert name
        assert annotate is None
        return ov.Core().compile_model(build(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


PUBLISHED = replace(CODEC, hidden=6)
SHAPES = {
    "dilated": replace(PUBLISHED, residual_layers=3, dilation_growth=3),
    "dilated-shortcuts": replace(PUBLISHED, residual_layers=2, shortcut=True, compress=4),
    "even-kernels": replace(PUBLISHED, kernel=4, last_kernel=6, residual_kernel=2),
    "small-kernels": replace(PUBLISHED, kernel=3, last_kernel=1, residual_kernel=1, lstm_layers=1),
    "ratios": replace(PUBLISHED, ratios=(3, 1, 5), lstm_layers=3),
    "one-filter": replace(PUBLISHED, filters=2, codebooks=1),
    "slow": replace(PUBLISHED, sample_rate_hz=24),
}


@pytest.mark.parametrize("name", SHAPES)
def test_codec_of_another_shape_agrees_with_mindspore(name: str) -> None:
    config = SHAPES[name]
    weights: Any = RandomWeights(config)
    codec, reference = Codec(config, weights, UncachedCompiler()), MindSporeCodec(config, weights, Target())
    for frames in (1, 2, 3, 9, 40, 90):
        codes = draw_codes(config.codebooks, config.codebook_size, frames)
        assert compute_error(codec.decode(codes, ignore_progress), reference.decode(codes)) < WINDOWS_TOLERANCE
        audio = np.random.default_rng(frames).uniform(-1, 1, frames * config.hop - frames % config.hop)
        clip = audio.astype(np.float32)
        np.testing.assert_array_equal(codec.encode(clip, ignore_progress), reference.encode(clip))


def test_backend_imports_neither_mindspore_nor_torch() -> None:
    program = (
        "import sys, worker.engines.musicgen.backends.openvino.model; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    imported = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = set(imported.stdout.split())
    assert "openvino" in packages
    assert not packages & {"mindspore", "mindnlp", "mindtorch", "torch", "transformers"}
