"""Sequences are admitted in the order of the queue, take steps together, and free their slots when finished."""

import numpy as np
import pytest

from tests.unit.worker.engines.musicgen.decoding.fake_decoder import FakeDecoder
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    ALL_BYTES,
    FIRST_JOB,
    JAZZ,
    LATE_JOB,
    PLANS,
    ROCK,
    SAMPLED,
    UNLIMITED,
    Jobs,
    Plan,
    check_generation,
    find_sequence,
    generate,
    make_stop,
)
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.decoding.scheduler import BatchEvent, BatchLimits, BatchState


def test_a_finished_sequence_frees_its_slots_at_once() -> None:
    decoder = check_generation([Plan(None, SAMPLED, new_tokens=7), Plan(ROCK, SAMPLED, new_tokens=9)])
    assert decoder.list_positions() == [[position] * 3 for position in range(7)] + [[7, 7], [8, 8]]
    assert decoder.list_calls("drop") == [(0,), (1,), (2,)]
    assert decoder.calls.index(("drop", 0)) < decoder.calls.index(("step", 1, 7, 2, 7))


def test_the_callback_on_step_precedes_each_step_and_a_step_advances_each_sequence_once() -> None:
    sequences = [plan.build() for plan in FIRST_JOB]
    decoder = FakeDecoder()
    generate(decoder, sequences, lambda: decoder.calls.append(("on_step",)))
    assert decoder.calls[0] == ("on_step",)
    computed: list[int] = []
    for method, *arguments in decoder.calls:
        if method == "on_step":
            computed = []
        elif method == "feed":
            computed.append(find_sequence(sequences, int(arguments[0])))
        elif method == "step":
            computed += {find_sequence(sequences, int(slot)) for slot in arguments[::2]}
        assert len(set(computed)) == len(computed)


def make_queue() -> list[Plan]:
    """Make plans of sequences with one slot or two slots; all sequences have different lengths."""
    kinds: list[tuple[TextStates | None, int]] = [
        (ROCK, 12), (None, 9), (JAZZ, 10), (None, 7), (None, 16), (ROCK, 8), (JAZZ, 14), (None, 5), (ROCK, 11),
    ]  # fmt: skip
    return [Plan(text, SAMPLED, new_tokens=length, seed=length) for text, length in kinds]


@pytest.mark.parametrize(
    "limits",
    [
        BatchLimits(4, ALL_BYTES),
        BatchLimits(3, ALL_BYTES),
        BatchLimits(1, ALL_BYTES),
        BatchLimits(None, 460),
        BatchLimits(None, 330),
        BatchLimits(None, 1),
        BatchLimits(4, 430),
        UNLIMITED,
    ],
    ids=str,
)
@pytest.mark.parametrize("joint", [True, False], ids=["one job", "three jobs"])
def test_the_head_of_the_queue_is_admitted_as_soon_as_it_fits_and_never_skipped(
    limits: BatchLimits, joint: bool
) -> None:
    plans = make_queue()
    parts = [plans] if joint else [plans[:4], plans[4:7], plans[7:]]
    queued = [0]
    # For each step: the number of sequences queued so far, the number of slots admitted so far, and the occupied slots.
    seen: list[tuple[int, int, list[int]]] = []

    def start_next() -> None:
        number = len(jobs.sequences)
        queued.append(queued[-1] + len(parts[number]))
        jobs.start(f"job {number}", parts[number])

    def look(_: int) -> None:
        seen.append((queued[-1], len(decoder.admitted_lengths), [*decoder.slots]))
        if len(jobs.sequences) < len(parts):
            start_next()

    decoder = FakeDecoder(hooks={"step": look})
    with Jobs(decoder, limits) as jobs:
        start_next()
    assert jobs.errors == {}

    sequences = [plan.build() for plan in plans]
    counts = [len(sequence.slot_texts) for sequence in sequences]
    sizes = [
        (count, count * decoder.count_bytes(sequence.length)) for count, sequence in zip(counts, sequences, strict=True)
    ]
    assert decoder.admitted_lengths == [sequence.length for sequence in sequences for _ in sequence.slot_texts]

    def fit(members: set[int]) -> bool:
        slots, cache_bytes = np.sum([sizes[member] for member in members], axis=0)
        return len(members) == 1 or (
            (limits.max_slots is None or slots <= limits.max_slots) and cache_bytes <= limits.max_cache_bytes
        )

    for known, admitted, slots in seen:
        active = {find_sequence(sequences, slot) for slot in slots}
        assert len(slots) == sum(counts[member] for member in active)
        assert fit(active)
        head = find_sequence(sequences, admitted)
        assert head >= known or not fit(active | {head})


def test_one_sequence_is_admitted_even_if_it_exceeds_the_limits() -> None:
    decoder = FakeDecoder()
    with Jobs(decoder, BatchLimits(1, 1)) as jobs:
        jobs.start("first", [PLANS["guided"], PLANS["clip and text"]])
    assert jobs.errors == {}
    assert decoder.peak_slots == 2


def test_a_job_stopped_while_it_waits_is_not_admitted_and_delays_no_other_job() -> None:
    error = make_stop()

    def stop() -> None:
        raise error

    def start_jobs(step: int) -> None:
        if step == 2:
            jobs.start("stopped", LATE_JOB, stop)
            jobs.start("small", [PLANS["sampled unconditional"]])
            assert jobs.state.waiting == 3
        if step == 3:
            assert jobs.state.waiting == 0

    decoder = FakeDecoder(hooks={"step": start_jobs})
    with Jobs(decoder, BatchLimits(3, ALL_BYTES)) as jobs:
        jobs.start("first", [PLANS["guided"]])
    assert jobs.errors == {"stopped": error}
    assert len(decoder.list_calls("admit")) == 3
    assert decoder.list_calls("step")[2] == (0, 2, 1, 2, 2, 0)  # the small job takes part in the next step


def test_an_observer_is_called_for_each_queued_job_for_each_step_and_at_the_end() -> None:
    with_guidance, without = (Plan(text, SAMPLED, new_tokens=1) for text in (ROCK, None))
    decoder = FakeDecoder(hooks={"step": lambda step: jobs.start("second", [without]) if step == 1 else None})
    with Jobs(decoder, BatchLimits(2, ALL_BYTES)) as jobs:
        jobs.start("first", [with_guidance, without])
    assert jobs.events == [
        (BatchEvent.QUEUED, BatchState(requests=1, waiting=2, active=0, slots=0)),
        (BatchEvent.STEP, BatchState(requests=1, waiting=1, active=1, slots=2)),
        (BatchEvent.QUEUED, BatchState(requests=2, waiting=2, active=1, slots=2)),
        (BatchEvent.STEP, BatchState(requests=2, waiting=0, active=2, slots=2)),
        (BatchEvent.IDLE, BatchState(requests=0, waiting=0, active=0, slots=0)),
    ]
