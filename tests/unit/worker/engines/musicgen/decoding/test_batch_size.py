"""How many rows a decoder runs side by side follows from what it makes per second."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.references.musicgen_cases import TINY
from tests.unit.worker.engines.musicgen.model_shapes import shape_decoder
from worker.engines.musicgen.decoding import batch_size
from worker.engines.musicgen.decoding.batch_size import MAX_SLOTS, load_or_measure_slots, measure_slots
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens

CONFIG = shape_decoder(TINY)


class EmptyDecoder:
    """Rows of which nothing is known but that they are there, and nothing computed."""

    chunk = 1

    def __init__(self) -> None:
        self.announce: OnCompile = ignore_compiling
        self.rows: set[int] = set()

    def count_bytes(self, length: int) -> int:
        raise NotImplementedError

    def admit(self, text: TextStates | None, length: int) -> int:  # noqa: ARG002 - nothing is computed
        row = len(self.rows)
        self.rows.add(row)
        return row

    def drop(self, row: int) -> None:
        self.rows.remove(row)

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        raise NotImplementedError

    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        assert set(rows) == self.rows
        assert tokens.shape == (len(rows), CONFIG.codebooks)
        assert positions.shape == (len(rows),)
        return np.zeros((len(rows), CONFIG.codebooks, CONFIG.vocabulary), dtype=np.float32)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], float]], int]:
    """Measure with steps that take as long as a rule says."""

    def measure(time_step: Callable[[int], float]) -> int:
        monkeypatch.setattr(batch_size, "_time_step", lambda _decoder, _config, rows: time_step(rows))
        return measure_slots(EmptyDecoder(), CONFIG)

    return measure


@pytest.mark.parametrize(
    ("time_step", "rows"),
    [
        pytest.param(lambda rows: 1.0 * rows, 1, id="each row costs as much as the first"),
        pytest.param(lambda _: 1.0, MAX_SLOTS, id="rows cost nothing"),
        pytest.param(lambda rows: 8.0 if rows <= 8 else 1.0 * rows, 8, id="free up to eight"),
        pytest.param(lambda rows: 8.0 if rows <= 8 else 2.0 * rows, 8, id="dearer beyond eight"),
        pytest.param(lambda rows: 8.0 + (4.0 if rows == 4 else 0.0), MAX_SLOTS, id="a slow measurement on the way"),
    ],
)
def test_as_many_rows_as_pay(
    count: Callable[[Callable[[int], float]], int], time_step: Callable[[int], float], rows: int
) -> None:
    assert count(time_step) == rows


def test_a_real_decoder_is_left_empty() -> None:
    decoder = EmptyDecoder()
    assert 1 <= measure_slots(decoder, CONFIG) <= MAX_SLOTS
    assert decoder.rows == set()


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([5, 7])
    monkeypatch.setattr(batch_size, "measure_slots", lambda *_: next(answers))
    path = tmp_path / "model.rows"
    assert [load_or_measure_slots(path, EmptyDecoder(), CONFIG) for _ in range(3)] == [5, 5, 5]
    path.write_text("{")
    assert load_or_measure_slots(path, EmptyDecoder(), CONFIG) == 7


def test_a_place_that_cannot_be_written_only_costs_the_measurement(tmp_path: Path) -> None:
    assert load_or_measure_slots(tmp_path / "nowhere" / "model.rows", EmptyDecoder(), CONFIG) >= 1
