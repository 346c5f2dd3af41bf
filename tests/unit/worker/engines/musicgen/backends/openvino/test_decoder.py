"""The decoder on OpenVINO: each row is computed as if it were alone, graphs are kept, and numbers are near enough."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset16 as ops

from tests.references.musicgen_cases import MONO, TINY, Model
from tests.unit.worker.engines.musicgen.conftest import LIMITS, Write
from tests.unit.worker.engines.musicgen.engine_harness import skip_without
from tests.unit.worker.engines.musicgen.test_pipeline import NAMED, ignore_report, ignore_tokens
from worker.engines.musicgen.backends.openvino import weight_formats
from worker.engines.musicgen.backends.openvino.decoder import BLOCK, CHUNK, OpenVinoDecoder
from worker.engines.musicgen.backends.openvino.decoder_graph import Builder
from worker.engines.musicgen.backends.openvino.graph_cache import CompiledModel
from worker.engines.musicgen.backends.registry import Engine
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.engine import import_loader
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.model_cache import ModelKey

# Heads as the published models have them, and rows of matrices that int4 divides into groups.
MODEL = Model(replace(TINY, hidden=128, heads=2, feed_forward=256), 8)
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
MEMORY = 2**24

Matrix = NDArray[np.float32]
Logits = dict[int, NDArray[np.float32]]
Load = Callable[[str], CompiledModel]


@dataclass(frozen=True)
class Life:
    """What a row reads, and when.

    Parameters
    ----------
    text_tokens
        0 for none.
    length
        How many positions it reads.
    begins
        After how many steps of the other rows.
    known
        How many positions it reads before its first step, and so many at once.
    """

    seed: int
    text_tokens: int
    length: int
    begins: int = 0
    known: int = 0
    chunk: int = CHUNK

    @property
    def text(self) -> TextStates | None:
        shape = (self.text_tokens, MODEL.size.hidden)
        states = np.random.default_rng([0, self.seed]).standard_normal(shape, dtype=np.float32)
        return TextStates(states) if self.text_tokens else None

    @property
    def tokens(self) -> NDArray[np.int32]:
        shape = (MODEL.size.codebooks, self.length)
        return np.random.default_rng([1, self.seed]).integers(MODEL.size.codebook_size, size=shape, dtype=np.int32)


# Texts on both sides of what OpenVINO's kernels take at once, and rows on both sides of a block's end.
COMPANY = (
    Life(0, 1, 90),
    Life(1, 0, 60),
    Life(2, 3, 40, begins=3),
    Life(3, 16, 70, begins=5, known=33),
    Life(4, 17, 90, begins=8),
    Life(5, 70, 300, begins=10, known=260),
    Life(6, 0, 64, begins=12),
    Life(7, 40, 65, begins=20, known=64),
    Life(8, 33, 110, begins=24, known=90),
    Life(9, 12, 35, begins=30, known=31),
    *(Life(10 + number, 5 + 9 * number, 20 + 7 * number, begins=40, known=2 * number) for number in range(8)),
)


def live(decoder: OpenVinoDecoder, lives: Sequence[Life]) -> tuple[list[Logits], list[int]]:
    """Let rows read what they have to, side by side; return each one's logits by position, and each step's rows."""
    found: list[Logits] = [{} for _ in lives]
    rows: dict[int, int] = {}
    places: dict[int, int] = {}
    counts: list[int] = []
    waiting = sorted(range(len(lives)), key=lambda index: lives[index].begins)
    while waiting or rows:
        while waiting and lives[waiting[0]].begins <= len(counts):
            index = waiting.pop(0)
            life = lives[index]
            rows[index], places[index] = decoder.admit(life.text, life.length), life.known
            for start in range(0, life.known, life.chunk):
                stop = min(start + life.chunk, life.known)
                decoder.feed(rows[index], life.tokens[:, start:stop], start)
        read = np.stack([lives[index].tokens[:, places[index]] for index in rows])
        positions = np.array([places[index] for index in rows], dtype=np.int32)
        logits = decoder.step([*rows.values()], read, positions)
        counts.append(len(rows))
        for index, own in zip([*rows], logits, strict=True):
            found[index][places[index]] = own.copy()
            places[index] += 1
            if places[index] == lives[index].length:
                decoder.drop(rows.pop(index))
    return found, counts


def live_alone(decoder: OpenVinoDecoder, life: Life) -> Logits:
    """Let a row read step by step, with nothing beside it."""
    (logits,), _ = live(decoder, [replace(life, begins=0, known=0)])
    return logits


def assert_same(ours: Logits, theirs: Logits, what: object) -> None:
    assert ours
    for position, logits in ours.items():
        np.testing.assert_array_equal(logits, theirs[position], err_msg=f"{what}, position {position}")


def load_compiled(folder: Path, precision: str, kept: Path) -> CompiledModel:
    config = ModelConfig.read(folder)
    return CompiledModel.load(folder, config.decoder, Weights.open(folder, config), precision, kept)


@pytest.fixture(scope="module")
def load(write_model: Write, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Compile the model; once for all tests."""
    kept: Path = tmp_path_factory.mktemp("compiled")
    return cache(lambda precision: load_compiled(write_model(MODEL), precision, kept))


@pytest.fixture(scope="module", params=PRECISIONS)
def decoder(request: pytest.FixtureRequest, load: Load) -> OpenVinoDecoder:
    skip_without(request.param)
    return OpenVinoDecoder(load(request.param), MEMORY)


@pytest.fixture(scope="module")
def alone(decoder: OpenVinoDecoder) -> Callable[[Life], Logits]:
    """Compute what each of the company is alone; once for all tests."""
    return cache(lambda life: live_alone(decoder, life))


def test_a_row_is_the_same_alone_and_beside_its_unconditional_one(
    decoder: OpenVinoDecoder, alone: Callable[[Life], Logits]
) -> None:
    for life in COMPANY:
        together, counts = live(
            decoder, [replace(each, begins=0, known=0) for each in (life, replace(life, text_tokens=0))]
        )
        assert set(counts) == {2}
        assert_same(together[0], alone(life), life)


def test_a_row_is_the_same_among_others_that_come_and_go(
    decoder: OpenVinoDecoder, alone: Callable[[Life], Logits]
) -> None:
    together, counts = live(decoder, COMPANY)
    assert max(counts) > 12
    assert len(set(counts)) > 8
    for life, logits in zip(COMPANY, together, strict=True):
        assert_same(logits, alone(life), life)


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 32, CHUNK])
def test_a_row_is_the_same_however_much_it_has_read_at_once(
    decoder: OpenVinoDecoder, alone: Callable[[Life], Logits], chunk: int
) -> None:
    for life in COMPANY:
        ((last, *_), _) = live(decoder, [replace(life, begins=0, known=life.length - 1, chunk=chunk)])
        assert last.keys() == {life.length - 1}
        assert_same(last, alone(life), life)


def test_a_row_that_is_dropped_leaves_its_memory_to_the_next(
    decoder: OpenVinoDecoder, alone: Callable[[Life], Logits]
) -> None:
    first, second, third = (replace(life, begins=0, known=0) for life in (COMPANY[0], COMPANY[4], COMPANY[7]))
    beside = decoder.admit(second.text, second.length)
    free = len(decoder._free)
    row = decoder.admit(first.text, first.length)
    blocks = decoder._rows[row].blocks
    assert len(blocks) == len(set(blocks)) == -(-first.length // BLOCK)
    assert len(decoder._free) == free - len(blocks)
    for position in range(first.length):
        decoder.step([row], first.tokens[None, :, position], np.array([position], dtype=np.int32))
    decoder.drop(row)
    assert sorted(decoder._free[free - len(blocks) :]) == sorted(blocks)
    (logits,), _ = live(decoder, [third])
    assert_same(logits, alone(COMPANY[7]), "in another's blocks")
    assert len(decoder._free) == free
    decoder.drop(beside)
    assert {len(array) for array in decoder._caches} == {1}


def test_there_is_room_for_all_that_the_limit_counts(load: Load) -> None:
    length = MODEL.size.positions
    for max_slots in (1, 2, 5):
        max_bytes = max_slots * OpenVinoDecoder(load("int8"), 1).count_bytes(length)
        decoder = OpenVinoDecoder(load("int8"), max_bytes)
        # The two rows of one sample are always let in.
        for row in [decoder.admit(None, length) for _ in range(max(max_slots, 2))]:
            decoder.drop(row)


@dataclass(frozen=True)
class Home:
    """A model that the test may change, and where its graphs are kept."""

    folder: Path
    kept: Path
    monkeypatch: pytest.MonkeyPatch

    def play(self, precision: str = "int8", kept: Path | None = None) -> Matrix:
        """Load the model, and compute a few steps of it."""
        decoder = OpenVinoDecoder(load_compiled(self.folder, precision, kept or self.kept), 1)
        return np.stack([*live_alone(decoder, Life(0, 7, 5)).values()])

    def forbid_building(self) -> None:
        def refuse(_: Builder) -> None:
            raise AssertionError("the graph is built again")

        for name in ("build_step", "build_texts"):
            self.monkeypatch.setattr(Builder, name, refuse)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    MODEL.write(tmp_path / "model")
    return Home(tmp_path / "model", tmp_path / "compiled", monkeypatch)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_graph_is_built_once(home: Home, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    skip_without(precision)
    first = home.play(precision)
    home.forbid_building()
    np.testing.assert_array_equal(home.play(precision), first)
    assert caplog.messages == []
    with pytest.raises(AssertionError, match="built again"):
        home.play("int8" if precision == "int4" else "int4")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_another_models_graph_is_not_used(home: Home, name: str) -> None:
    first = home.play()
    before = (home.folder / name).stat()
    if name == "model.safetensors":
        replace(MODEL, seed=9).write(home.folder)
        assert (home.folder / name).stat().st_size == before.st_size
    os.utime(home.folder / name, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    home.forbid_building()
    with pytest.raises(AssertionError, match="built again"):
        home.play()
    home.monkeypatch.undo()
    others = [home.kept / "of-another-model-step.xml", *home.kept.glob("*-texts.*")]
    others[0].touch()
    home.play("float32")
    assert np.array_equal(first, home.play()) == (name == "config.json")
    # What was kept of the model as it was is gone; what is another model's, or of another precision, is not.
    assert [path.exists() for path in others] == [True, False, False]
    assert len([*home.kept.glob("*-step.xml")]) == 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


@pytest.mark.parametrize("file", ["step.xml", "step.bin", "texts.xml", "texts.bin"])
@pytest.mark.parametrize("damage", [cut, empty, overwrite, Path.unlink])
def test_a_damaged_graph_is_made_again(
    home: Home, file: str, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    first = home.play()
    (path,) = home.kept.glob(f"*-{file}")
    damage(path)
    np.testing.assert_array_equal(home.play(), first)
    if path.suffix == ".bin" or damage != Path.unlink:
        [message] = caplog.messages
        assert message.startswith(f"{path.with_suffix('.xml')} cannot be read and is made again")
    home.forbid_building()
    np.testing.assert_array_equal(home.play(), first)


def fail_serializing(_: ov.Model, path: Path, weights: Path) -> None:
    for file in (path, weights):
        file.write_bytes(b"half of it")
    raise RuntimeError("No space left on device")


def test_where_graphs_cannot_be_kept_there_is_music_all_the_same(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = home.play()
    (tmp_path / "file").touch()
    np.testing.assert_array_equal(home.play(kept=tmp_path / "file"), first)
    assert [message.split(":")[0] for message in caplog.messages] == ["a compiled graph is not kept"] * 2
    caplog.clear()
    monkeypatch.setattr(ov, "serialize", fail_serializing)
    np.testing.assert_array_equal(home.play(kept=tmp_path / "full"), first)
    assert caplog.messages == ["a compiled graph is not kept: No space left on device"] * 2
    assert [*(tmp_path / "full").iterdir()] == []


def test_a_model_whose_graphs_cannot_be_kept_makes_music(
    write_model: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = NAMED["text_guided"]
    (tmp_path / "file").touch()
    title = ModelKey("someone/music", write_model(MONO), "float32")
    composer = import_loader(Engine.OPENVINO)(title, "CPU", LIMITS, tmp_path / "file")
    [piece] = composer.generate(case.order(), ignore_report, ignore_tokens, None)
    np.testing.assert_array_equal(piece.codes, case.read()["codes"][0])
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert all(record.levelno <= logging.WARNING for record in caplog.records)


def draw_matrices() -> dict[str, Matrix]:
    random = np.random.default_rng(0)
    plain = random.standard_normal((8, 128), dtype=np.float32)
    positive = random.uniform(1, 2, (8, 128)).astype(np.float32)
    return {
        "of two groups": plain,
        "of three groups": random.standard_normal((4, 192), dtype=np.float32),
        "of one group": random.standard_normal((5, 96), dtype=np.float32),
        "of half a byte too many": random.standard_normal((3, 5), dtype=np.float32),
        "large and small": plain * np.float32(10) ** np.arange(-6, 2, dtype=np.float32)[:, None],
        "half zeros": plain * (np.arange(128) >= 70),
        "zeros": np.zeros_like(plain),
        "positive": positive,
        "negative": -positive,
        "far from zero": positive + 10,
        "all the same": np.full_like(positive, 0.3),
    }


def decompress(hold: Callable[[Matrix], Any], matrix: Matrix) -> Matrix:
    """Let OpenVINO multiply a matrix by one that changes nothing, as it multiplies in the decoder."""
    rows = ops.parameter([-1, matrix.shape[1]], np.float32)
    model = ov.Model(
        [ops.result(ops.matmul(rows, hold(matrix), transpose_a=False, transpose_b=True))], [rows], "matrix"
    )
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}
    compiled = ov.Core().compile_model(model, "CPU", options)
    found: Matrix = compiled([np.eye(matrix.shape[1], dtype=np.float32)])[0].T
    return found


@pytest.mark.parametrize("matrix", draw_matrices().values(), ids=draw_matrices())
def test_eight_bits_hold_a_matrix_to_half_a_step(matrix: Matrix) -> None:
    step = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.rint(matrix / step)) * step
    found = decompress(weight_formats.hold_int8, matrix)
    np.testing.assert_array_equal(found, expected)
    assert (np.abs(found - matrix) <= 0.501 * step).all()


@pytest.mark.parametrize("matrix", draw_matrices().values(), ids=draw_matrices())
def test_four_bits_hold_each_group_to_half_a_step(matrix: Matrix) -> None:
    inputs = matrix.shape[1]
    groups = matrix.reshape(len(matrix), -1, 64 if inputs % 64 == 0 else inputs)
    # Zero is among the numbers, as it is among the codes.
    low, high = (groups.min(axis=2, keepdims=True, initial=0), groups.max(axis=2, keepdims=True, initial=0))
    step = (high - low) / np.float32(15)
    with np.errstate(invalid="ignore"):
        middle = np.nan_to_num(np.rint(-low / step))
        expected = (np.clip(np.nan_to_num(np.rint(groups / step)) + middle, 0, 15) - middle) * step
    found = decompress(weight_formats.hold_int4, matrix)
    assert (np.abs(found.reshape(groups.shape) - groups) <= 0.501 * step).all()
    np.testing.assert_array_equal(found, expected.reshape(matrix.shape))


@dataclass(frozen=True)
class Nearness:
    """How far the logits may be from those of float32: half and twice of what was measured.

    Parameters
    ----------
    error
        The root of the mean square, in comparison to that of the logits.
    min_equal
        The share of codes that are the likeliest in both.
    """

    error: float
    min_equal: float


@pytest.mark.parametrize(
    ("precision", "nearness"),
    [
        ("bfloat16", Nearness(0.006, 0.97)),
        ("int8", Nearness(0.011, 0.95)),
        ("int4", Nearness(0.12, 0.75)),
    ],
)
def test_fewer_bits_stay_near(load: Load, precision: str, nearness: Nearness) -> None:
    skip_without(precision)
    lives = [Life(number, tokens, 100) for number, tokens in enumerate((0, 5, 20, 70))]
    (whole, _), (short, _) = (live(OpenVinoDecoder(load(each), MEMORY), lives) for each in ("float32", precision))
    ours, theirs = (np.stack([row[place] for row in rows for place in sorted(row)]) for rows in (short, whole))
    error = np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean())
    assert nearness.error / 2 < error < 2 * nearness.error
    assert (ours.argmax(axis=-1) == theirs.argmax(axis=-1)).mean() > nearness.min_equal
