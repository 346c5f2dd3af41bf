"""The decoder on OpenVINO: a slot has the same logits in any batch, and memory and accuracy are within their limits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.references.musicgen_cases import Model
from tests.unit.worker.engines.musicgen.backends.openvino.sequence_plans import (
    MODEL,
    PLANS,
    PRECISIONS,
    WIDE_MODEL,
    Logits,
    SequencePlan,
    decode,
    decode_alone,
    load_compiled,
)
from tests.unit.worker.engines.musicgen.conftest import Write
from tests.unit.worker.engines.musicgen.engine_harness import skip_without
from worker.engines.musicgen.backends.openvino.decoder import BLOCK, CHUNK, OpenVinoDecoder
from worker.engines.musicgen.backends.openvino.graph_cache import CompiledDecoder

MAX_BYTES = 2**24

Load = Callable[[str, Model], CompiledDecoder]


def assert_same(logits: Logits, expected: Logits, what: object) -> None:
    assert logits
    for position, row in logits.items():
        np.testing.assert_array_equal(row, expected[position], err_msg=f"{what}, position {position}")


@pytest.fixture(scope="module")
def load(write_model: Write, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Return a function that compiles the decoder of a model; each decoder is compiled once for all tests."""
    cache_folder: Path = tmp_path_factory.mktemp("compiled")
    return cache(lambda precision, model: load_compiled(write_model(model), precision, cache_folder))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((precision, model), id=f"{name}{precision}")
        for precision in PRECISIONS
        for name, model in (("", MODEL), ("wide-", WIDE_MODEL))
    ],
)
def decoder(request: pytest.FixtureRequest, load: Load) -> OpenVinoDecoder:
    precision, model = request.param
    skip_without(precision)
    return OpenVinoDecoder(load(precision, model), MAX_BYTES)


@pytest.fixture(scope="module")
def alone(decoder: OpenVinoDecoder) -> Callable[[SequencePlan], Logits]:
    """Return a function that computes the logits of a plan alone in the batch; each plan is computed once."""
    return cache(lambda plan: decode_alone(decoder, plan))


def test_logits_are_the_same_alone_and_with_the_unconditional_slot(
    decoder: OpenVinoDecoder, alone: Callable[[SequencePlan], Logits]
) -> None:
    for plan in PLANS:
        together, counts = decode(
            decoder, [replace(each, start_step=0, known=0) for each in (plan, replace(plan, text_tokens=0))]
        )
        assert set(counts) == {2}
        assert_same(together[0], alone(plan), plan)


def test_logits_are_the_same_alone_and_while_other_slots_are_admitted_and_dropped(
    decoder: OpenVinoDecoder, alone: Callable[[SequencePlan], Logits]
) -> None:
    together, counts = decode(decoder, PLANS)
    assert max(counts) > 12
    assert len(set(counts)) > 8
    for plan, logits in zip(PLANS, together, strict=True):
        assert_same(logits, alone(plan), plan)


def test_logits_are_the_same_alone_and_in_a_batch_that_is_computed_in_parts(
    decoder: OpenVinoDecoder, alone: Callable[[SequencePlan], Logits]
) -> None:
    plans = [SequencePlan(100 + index, 1 + index % 20, 3) for index in range(2 * CHUNK + 1)]
    together, counts = decode(decoder, plans)
    assert set(counts) == {len(plans)}
    for plan, logits in zip(plans, together, strict=True):
        assert_same(logits, alone(plan), plan)


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 32, CHUNK])
def test_logits_are_the_same_after_steps_and_after_chunks(
    decoder: OpenVinoDecoder, alone: Callable[[SequencePlan], Logits], chunk: int
) -> None:
    for plan in PLANS:
        ((last, *_), _) = decode(decoder, [replace(plan, start_step=0, known=plan.length - 1, chunk=chunk)])
        assert last.keys() == {plan.length - 1}
        assert_same(last, alone(plan), plan)


def test_blocks_of_a_dropped_slot_are_used_again(
    decoder: OpenVinoDecoder, alone: Callable[[SequencePlan], Logits]
) -> None:
    first, second, third = (replace(plan, start_step=0, known=0) for plan in (PLANS[0], PLANS[4], PLANS[7]))
    staying = decoder.admit(second.text, second.length)
    free = len(decoder._free)
    slot = decoder.admit(first.text, first.length)
    blocks = decoder._slots[slot].blocks
    assert len(blocks) == len(set(blocks)) == -(-first.length // BLOCK)
    assert len(decoder._free) == free - len(blocks)
    for position in range(first.length):
        decoder.step([slot], first.tokens[None, :, position], np.array([position], dtype=np.int32))
    decoder.drop(slot)
    assert sorted(decoder._free[free - len(blocks) :]) == sorted(blocks)
    (logits,), _ = decode(decoder, [third])
    assert_same(logits, alone(PLANS[7]), "in blocks that were used before")
    assert len(decoder._free) == free
    decoder.drop(staying)
    assert {len(array) for array in decoder._caches} == {1}


def test_slots_with_the_counted_bytes_fit_into_the_memory_limit(load: Load) -> None:
    length = MODEL.size.positions
    for max_slots in (1, 2, 5):
        max_bytes = max_slots * OpenVinoDecoder(load("int8", MODEL), 1).count_bytes(length)
        decoder = OpenVinoDecoder(load("int8", MODEL), max_bytes)
        # The two slots of one sample are always admitted, even with less memory.
        for slot in [decoder.admit(None, length) for _ in range(max(max_slots, 2))]:
            decoder.drop(slot)


@dataclass(frozen=True)
class Accuracy:
    """How far the logits of a precision may differ from the logits of float32.

    Parameters
    ----------
    error
        The measured root mean square of the difference, relative to the root mean square of the logits of float32. The
        test accepts values between half of this value and twice this value.
    min_equal
        The minimum share of predictions in which the most likely token is the same in both precisions.
    """

    error: float
    min_equal: float


@pytest.mark.parametrize(
    ("precision", "accuracy"),
    [
        ("bfloat16", Accuracy(0.006, 0.97)),
        ("int8", Accuracy(0.011, 0.95)),
        ("int4", Accuracy(0.12, 0.75)),
    ],
)
def test_logits_in_fewer_bits_are_near_those_of_float32(load: Load, precision: str, accuracy: Accuracy) -> None:
    skip_without(precision)
    plans = [SequencePlan(seed, tokens, 100) for seed, tokens in enumerate((0, 5, 20, 70))]
    expected, logits = (
        np.stack([sequence[position] for sequence in sequences for position in sorted(sequence)])
        for sequences, _ in (
            decode(OpenVinoDecoder(load(each, MODEL), MAX_BYTES), plans) for each in ("float32", precision)
        )
    )
    error = np.sqrt(np.square(logits - expected).mean() / np.square(expected).mean())
    assert accuracy.error / 2 < error < 2 * accuracy.error
    assert (logits.argmax(axis=-1) == expected.argmax(axis=-1)).mean() > accuracy.min_equal
