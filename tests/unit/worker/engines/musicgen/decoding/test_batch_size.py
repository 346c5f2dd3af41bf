"""The number of slots in a batch is chosen by the number of positions that the decoder computes per second."""

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


class IdleDecoder:
    """A decoder that records its slots and computes nothing."""

    max_chunk = 1

    def __init__(self) -> None:
        self.on_compile: OnCompile = ignore_compiling
        self.slots: set[int] = set()

    def count_bytes(self, length: int) -> int:
        raise NotImplementedError

    def admit(self, text: TextStates | None, length: int) -> int:  # noqa: ARG002 - nothing is computed
        slot = len(self.slots)
        self.slots.add(slot)
        return slot

    def drop(self, slot: int) -> None:
        self.slots.remove(slot)

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        raise NotImplementedError

    def step(
        self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        assert set(slots) == self.slots
        assert tokens.shape == (len(slots), CONFIG.codebooks)
        assert positions.shape == (len(slots),)
        return np.zeros((len(slots), CONFIG.codebooks, CONFIG.vocabulary), dtype=np.float32)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], float]], int]:
    """Return a function that runs ``measure_slots``; its argument maps a number of slots to the duration of a step."""

    def measure_with(time_step: Callable[[int], float]) -> int:
        monkeypatch.setattr(batch_size, "_time_step", lambda _decoder, _config, slots: time_step(slots))
        return measure_slots(IdleDecoder(), CONFIG)

    return measure_with


@pytest.mark.parametrize(
    ("time_step", "slots"),
    [
        pytest.param(lambda slots: 1.0 * slots, 1, id="each slot costs as much as the first"),
        pytest.param(lambda _: 1.0, MAX_SLOTS, id="slots cost nothing"),
        pytest.param(lambda slots: 8.0 if slots <= 8 else 1.0 * slots, 8, id="free up to eight"),
        pytest.param(lambda slots: 8.0 if slots <= 8 else 2.0 * slots, 8, id="more expensive beyond eight"),
        pytest.param(lambda slots: 8.0 + (4.0 if slots == 4 else 0.0), MAX_SLOTS, id="one slow measurement"),
    ],
)
def test_the_smallest_number_of_slots_with_about_the_highest_rate_is_chosen(
    measure: Callable[[Callable[[int], float]], int], time_step: Callable[[int], float], slots: int
) -> None:
    assert measure(time_step) == slots


def test_a_measurement_leaves_no_slot_occupied() -> None:
    decoder = IdleDecoder()
    assert 1 <= measure_slots(decoder, CONFIG) <= MAX_SLOTS
    assert decoder.slots == set()


def test_the_number_of_slots_is_stored_and_measured_again_if_the_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([5, 7])
    monkeypatch.setattr(batch_size, "measure_slots", lambda *_: next(measured))
    path = tmp_path / "model.slots"
    assert [load_or_measure_slots(path, IdleDecoder(), CONFIG) for _ in range(3)] == [5, 5, 5]
    path.write_text("{")
    assert load_or_measure_slots(path, IdleDecoder(), CONFIG) == 7


def test_the_number_of_slots_is_measured_even_if_it_cannot_be_stored(tmp_path: Path) -> None:
    assert load_or_measure_slots(tmp_path / "missing" / "model.slots", IdleDecoder(), CONFIG) >= 1
