"""EnCodec on OpenVINO against transformers', against itself uncut, and against MindSpore's in other shapes."""

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
from worker.engines.musicgen.backends.mindspore.codec import Codec as NetworkCodec
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.openvino import codec as codec_module
from worker.engines.musicgen.backends.openvino.codec import STRETCH, Codec
from worker.engines.musicgen.backends.openvino.graph_cache import GraphCompiler, Part
from worker.engines.musicgen.model.configuration import CodecConfig, ModelConfig
from worker.engines.musicgen.model.seanet import list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.model.weights import Weights

Array = NDArray[Any]
Codes = NDArray[np.int16]
Load = Callable[[Model], Codec]
Open = Callable[[Model, Path], Codec]

TOLERANCE = 1e-4
UNCUT_TOLERANCE = 1e-5
MODELS = {"mono": MONO, "classic": CLASSIC, "shortcut": SHORTCUT, "strides": STRIDES}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_codec_case = pytest.mark.parametrize("case", CODEC_CASES, ids=lambda case: case.name)


def say_nothing() -> None:
    """For codecs that nobody waits for."""


@pytest.fixture(scope="session")
def open_codec(write_model: Write) -> Open:
    def open_kept(model: Model, kept: Path) -> Codec:
        folder = write_model(model)
        config = ModelConfig.read(folder)
        return Codec(config.codec, Weights.open(folder, config), GraphCompiler(folder, "float32", kept))

    return open_kept


@pytest.fixture(scope="session")
def load(open_codec: Open, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a codec; once for all tests."""
    kept: Path = tmp_path_factory.mktemp("compiled")
    return cache(lambda model: open_codec(model, kept))


@pytest.fixture(scope="module")
def load_cut(open_codec: Open, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a codec whose windows are as small as can be; once for all tests."""
    return make_loader(open_codec, tmp_path_factory.mktemp("compiled"), window_s=0)


@pytest.fixture(scope="module")
def load_uncut(open_codec: Open, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a codec whose windows hold all that the tests have; once for all tests."""
    return make_loader(open_codec, tmp_path_factory.mktemp("compiled"), window_s=4)


def make_loader(open_codec: Open, kept: Path, window_s: int) -> Load:
    """Make what loads codecs with windows of another size, encoder included."""

    @cache
    def load_with(model: Model) -> Codec:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec_module, "WINDOW_S", window_s)
            codec = open_codec(model, kept)
            codec.encode(np.zeros(1, dtype=np.float32), say_nothing)
        return codec

    return load_with


def deviate(audio: Array, reference: Array) -> float:
    """Return the largest difference, relative to what is loudest."""
    assert audio.shape == reference.shape
    assert audio.dtype == np.float32
    return float(np.abs(audio - reference).max() / np.abs(reference).max())


def draw_codes(codebooks: int, size: int, frames: int) -> Codes:
    return np.random.default_rng(frames).integers(size, size=(codebooks, frames), dtype=np.int16)


def draw_model_codes(model: Model, frames: int) -> Codes:
    return draw_codes(model.size.codebooks, model.size.codebook_size, frames)


@each_codec_case
def test_clips_become_the_codes_that_transformers_makes(case: CodecCase, load: Load) -> None:
    arrays = case.read()
    for index, clip in enumerate(case.make_clips()):
        codes = load(case.model).encode(clip[0], say_nothing)
        assert codes.dtype == np.int16
        np.testing.assert_array_equal(codes, arrays[f"codes_{index}"], err_msg=f"of {clip.shape[1]} samples")


@each_codec_case
def test_codes_become_the_audio_that_transformers_makes(case: CodecCase, load: Load) -> None:
    arrays = case.read()
    for index, codes in enumerate(case.make_codes()):
        assert deviate(load(case.model).decode(codes, say_nothing), arrays[f"audio_{index}"]) < TOLERANCE


@each_case
def test_generated_codes_become_the_audio_that_transformers_makes(case: Case, load: Load) -> None:
    arrays = case.read()
    codec, channels = load(case.model), case.model.size.channels
    for codes, audio in zip(arrays["codes"], arrays["audio"], strict=True):
        for channel in range(channels):
            assert deviate(codec.decode(codes[channel::channels], say_nothing), audio[channel]) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.clips], ids=lambda case: case.name)
def test_prompts_become_the_codes_that_transformers_makes(case: Case, load: Load) -> None:
    arrays = case.read()
    codec, channels = load(case.model), case.model.size.channels
    for clip, padding, codes in zip(case.make_clips(), arrays["padding_samples"], arrays["prompt_codes"], strict=True):
        for channel in range(channels):
            padded = np.pad(clip[channel], (padding, 0))
            np.testing.assert_array_equal(codec.encode(padded, say_nothing), codes[channel::channels])


@pytest.mark.parametrize("name", MODELS)
def test_windows_cannot_be_heard(name: str, load: Load, load_cut: Load, load_uncut: Load) -> None:
    model = MODELS[name]
    uncut = load_uncut(model)
    # Windows are smallest at 4 frames, and usual ones 402, or 52 with strides; the LSTM's stretches end at 128.
    for frames in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 51, 52, 53, 101, 102, 103, 127, 128, 129, 150):
        codes = draw_model_codes(model, frames)
        whole = uncut.decode(codes, say_nothing)
        hop = uncut._config.hop
        clip = Clip(frames * hop - frames % hop, frames).make(model.size, 1)[0]
        for windowed in (load(model), load_cut(model)):
            assert deviate(windowed.decode(codes, say_nothing), whole) < UNCUT_TOLERANCE
            np.testing.assert_array_equal(
                windowed.encode(clip, say_nothing), uncut.encode(clip, say_nothing), err_msg=f"of {frames} frames"
            )


def test_long_music_in_usual_windows_is_that_of_one_piece(load: Load, load_uncut: Load) -> None:
    codes = draw_model_codes(MONO, 1_600)
    assert deviate(load(MONO).decode(codes, say_nothing), load_uncut(MONO).decode(codes, say_nothing)) < UNCUT_TOLERANCE


def test_windows_reach_less_than_a_second_further_than_they_are_kept(load_uncut: Load, load_cut: Load) -> None:
    # Frames that are computed: the codec's first layers and last ones reach 3 frames, the others 1.
    parts = [half._before if before else half._after for half in list_halves(load_uncut(STRIDES)) for before in (1, 0)]
    assert [part._frames for part in parts] == [202, 206, 206, 202]
    parts = [half._before if before else half._after for half in list_halves(load_cut(STRIDES)) for before in (1, 0)]
    assert [part._frames for part in parts] == [4, 12, 12, 4]


def list_halves(codec: Codec) -> list[codec_module._Half]:
    assert codec._encoder is not None
    return [codec._encoder, codec._decoder]


@pytest.mark.parametrize("stretch", [1, 7, 64])
def test_the_lstm_goes_on_from_stretch_to_stretch(stretch: int, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = draw_model_codes(MONO, STRETCH)
    whole = load(MONO).decode(codes, say_nothing)
    monkeypatch.setattr(codec_module, "STRETCH", stretch)
    assert deviate(load(MONO).decode(codes, say_nothing), whole) < UNCUT_TOLERANCE


def test_no_length_brings_a_new_shape_of_windows(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a signal is, what is computed at once is not."""
    codec = load(STRIDES)
    met: set[tuple[int, ...]] = set()
    compute = Part.compute

    def watch(part: Part, inputs: dict[str, Array]) -> list[Array]:
        met.add(inputs[codec_module.SIGNAL].shape)
        return compute(part, inputs)

    monkeypatch.setattr(Part, "compute", watch)
    for frames in (1, 2, 30, 51, 52, 53, 389):
        codec.decode(draw_model_codes(STRIDES, frames), say_nothing)
        codec.encode(np.zeros(frames * 640 - frames % 3, dtype=np.float32), say_nothing)
    windows = {shape for shape in met if len(shape) == 3}
    assert windows == {(1, 56, 16), (1, 52, 64), (1, 52 * 640, 1), (1, 56, 64)}
    assert max(length for length, _ in met - windows) == STRETCH


@pytest.mark.parametrize("stop_at", [0, 1, 3, 6, 9])
def test_work_can_be_stopped_between_windows_and_stretches(stop_at: int, load: Load) -> None:
    codec, codes = load(STRIDES), draw_model_codes(STRIDES, 200)
    audio = np.zeros(200 * 640, dtype=np.float32)
    whole = codec.decode(codes, say_nothing)
    computes: list[Callable[[Callable[[], None]], object]] = [
        lambda tell: codec.decode(codes, tell),
        lambda tell: codec.encode(audio, tell),
    ]
    for compute in computes:
        told: list[None] = []

        def stop(told: list[None] = told) -> None:
            told.append(None)
            if len(told) > stop_at:
                raise JobStoppedError("enough")

        with pytest.raises(JobStoppedError):
            compute(stop)
        assert len(told) == stop_at + 1
        told.clear()
        compute(lambda told=told: told.append(None))  # type: ignore[misc]
        assert len(told) == 4 + 2 + 4
    np.testing.assert_array_equal(codec.decode(codes, say_nothing), whole)


def test_threads_do_not_disturb_each_other(open_codec: Open, tmp_path: Path) -> None:
    codec = open_codec(STRIDES, tmp_path)
    threads = 4
    tasks = [draw_model_codes(STRIDES, 60 + 31 * index) for index in range(threads)]
    clips = [Clip(20_000 + 7_001 * index, index).make(STRIDES.size, 1)[0] for index in range(threads)]
    barrier = threading.Barrier(2 * threads)

    def wait_and(compute: Callable[[], Array]) -> list[Array]:
        barrier.wait()
        return [compute() for _ in range(3)]

    with ThreadPoolExecutor(2 * threads) as pool:
        # Nobody has encoded yet: all of them want the encoder loaded.
        encoding = [pool.submit(wait_and, partial(codec.encode, clip, say_nothing)) for clip in clips]
        decoding = [pool.submit(wait_and, partial(codec.decode, codes, say_nothing)) for codes in tasks]
    for future, clip in zip(encoding, clips, strict=True):
        for codes in future.result():
            np.testing.assert_array_equal(codes, codec.encode(clip, say_nothing))
    for future, task in zip(decoding, tasks, strict=True):
        for audio in future.result():
            np.testing.assert_array_equal(audio, codec.decode(task, say_nothing))


def test_the_encoder_is_loaded_when_there_is_something_to_encode(
    open_codec: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    compile_graph = GraphCompiler.compile

    def watch(compiler: GraphCompiler, name: str, *arguments: Any) -> Any:
        loaded.append(name)
        return compile_graph(compiler, name, *arguments)

    monkeypatch.setattr(GraphCompiler, "compile", watch)
    codec = open_codec(MONO, tmp_path)
    parts = ["after", "before", "lstm"]
    assert sorted(loaded) == [f"decoder-{part}" for part in parts]
    for _ in range(2):
        codec.encode(np.zeros(100, dtype=np.float32), say_nothing)
        assert sorted(loaded[3:]) == [f"encoder-{part}" for part in parts]


def test_graphs_are_built_once(
    open_codec: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes = draw_model_codes(MONO, 20)

    def compute() -> Iterable[Array]:
        codec = open_codec(MONO, tmp_path)
        audio = codec.decode(codes, say_nothing)
        return audio, codec.encode(audio, say_nothing)

    def refuse(*_: object) -> None:
        raise AssertionError("the graph is built again")

    first = compute()
    monkeypatch.setattr(codec_module.ConvolutionsBuilder, "build", refuse)
    monkeypatch.setattr(codec_module, "build_recurrence", refuse)
    for again, once in zip(compute(), first, strict=True):
        np.testing.assert_array_equal(again, once)
    assert caplog.messages == []
    open_codec(MONO, tmp_path)
    with pytest.raises(AssertionError, match="built again"):
        open_codec(CLASSIC, tmp_path)


class DrawnWeights:
    """Weights of a codec of any shape, without a file."""

    def __init__(self, config: CodecConfig) -> None:
        layers = [*list_encoder_layers(config), *list_decoder_layers(config)]
        self._shapes = dict(pair for layer in layers for pair in layer.list_tensors())
        self._codebook = (config.codebook_size, config.hidden)

    def read(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes.get(name, self._codebook)
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
        return values / np.float32(np.sqrt(np.prod(shape[1:]) / 2)) if len(shape) > 1 else values * np.float32(0.1)


class ForgetfulCompiler(GraphCompiler):
    """Keeps nothing."""

    def __init__(self) -> None:
        pass

    def compile(self, name: str, build: Callable[[], ov.Model], complete: object = None) -> Any:
        """Compile what is built."""
        assert name
        assert complete is None
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
def test_codecs_of_other_shapes_are_as_with_mindspore(name: str) -> None:
    config = SHAPES[name]
    weights: Any = DrawnWeights(config)
    ours, theirs = Codec(config, weights, ForgetfulCompiler()), NetworkCodec(config, weights, Target())
    for frames in (1, 2, 3, 9, 40, 90):
        codes = draw_codes(config.codebooks, config.codebook_size, frames)
        assert deviate(ours.decode(codes, say_nothing), theirs.decode(codes)) < UNCUT_TOLERANCE
        audio = np.random.default_rng(frames).uniform(-1, 1, frames * config.hop - frames % config.hop)
        clip = audio.astype(np.float32)
        np.testing.assert_array_equal(ours.encode(clip, say_nothing), theirs.encode(clip))


def test_the_engine_needs_neither_mindspore_nor_torch() -> None:
    program = (
        "import sys, worker.engines.musicgen.backends.openvino.model; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    imported = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = set(imported.stdout.split())
    assert "openvino" in packages
    assert not packages & {"mindspore", "mindnlp", "mindtorch", "torch", "transformers"}
