"""Samples take turns in the batch, wait in their order for room, and leave as soon as they are done."""

import numpy as np
import pytest

from shared.errors import JobStoppedError
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import FakeDecoder
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    ALL_BYTES,
    COMPANY,
    DRAWN,
    JAZZ,
    LATE,
    PLANS,
    ROCK,
    UNLIMITED,
    Jobs,
    Plan,
    generate,
    run,
    sample_of,
)
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.decoding.scheduler import BatchLimits


def test_a_row_that_is_done_leaves_at_once() -> None:
    decoder = run([Plan(None, DRAWN, new_tokens=7), Plan(ROCK, DRAWN, new_tokens=9)])
    assert decoder.list_positions() == [[position] * 3 for position in range(7)] + [[7, 7], [8, 8]]
    assert decoder.recall("drop") == [(0,), (1,), (2,)]
    assert decoder.calls.index(("drop", 0)) < decoder.calls.index(("step", 1, 7, 2, 7))


def test_tells_before_each_turn_in_which_each_sample_reads_a_chunk_or_takes_a_step() -> None:
    tracks = [plan.make() for plan in COMPANY]
    decoder = FakeDecoder()
    generate(decoder, tracks, lambda: decoder.calls.append(("tell",)))
    assert decoder.calls[0] == ("tell",)
    turn: list[int | str] = []
    for kind, *facts in decoder.calls:
        if kind == "tell":
            turn = []
        elif kind == "feed":
            turn.append(sample_of(tracks, int(facts[0])))
        elif kind == "step":
            turn += {sample_of(tracks, int(row)) for row in facts[::2]}
        assert len(set(turn)) == len(turn)


def make_queue() -> list[Plan]:
    """Make samples of one row and of two, each of a length of its own."""
    kinds: list[tuple[TextStates | None, int]] = [
        (ROCK, 12), (None, 9), (JAZZ, 10), (None, 7), (None, 16), (ROCK, 8), (JAZZ, 14), (None, 5), (ROCK, 11),
    ]  # fmt: skip
    return [Plan(text, DRAWN, new_tokens=length, seed=length) for text, length in kinds]


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
def test_samples_wait_for_room_in_their_order_and_no_longer(limits: BatchLimits, joint: bool) -> None:
    plans = make_queue()
    parts = [plans] if joint else [plans[:4], plans[4:7], plans[7:]]
    asked = [0]
    seen: list[tuple[int, int, list[int]]] = []  # samples asked for, rows that entered so far, and that are inside

    def start_next() -> None:
        number = len(jobs.tracks)
        asked.append(asked[-1] + len(parts[number]))
        jobs.start(f"job {number}", parts[number])

    def look(_: int) -> None:
        seen.append((asked[-1], len(decoder.admitted), [*decoder.rows]))
        if len(jobs.tracks) < len(parts):
            start_next()

    decoder = FakeDecoder(hooks={"step": look})
    with Jobs(decoder, limits) as jobs:
        start_next()
    assert jobs.errors == {}

    tracks = [plan.make() for plan in plans]
    sizes = [(len(track.texts), len(track.texts) * decoder.count_bytes(track.length)) for track in tracks]
    assert decoder.admitted == [track.length for track in tracks for _ in track.texts]

    def fit(samples: set[int]) -> bool:
        rows, taken = np.sum([sizes[sample] for sample in samples], axis=0)
        return len(samples) == 1 or (
            (limits.max_slots is None or rows <= limits.max_slots) and taken <= limits.max_cache_bytes
        )

    for known, entered, rows in seen:
        inside = {sample_of(tracks, row) for row in rows}
        assert len(rows) == sum(sizes[sample][0] for sample in inside)
        assert fit(inside)
        following = sample_of(tracks, entered)
        assert following >= known or not fit(inside | {following})


def test_one_sample_is_let_in_whatever_the_limits() -> None:
    decoder = FakeDecoder()
    with Jobs(decoder, BatchLimits(1, 1)) as jobs:
        jobs.start("first", [PLANS["guided"], PLANS["clip and text"]])
    assert jobs.errors == {}
    assert decoder.max_slots == 2


def test_a_job_that_is_stopped_while_it_waits_for_room_never_enters_and_holds_up_nobody() -> None:
    error = JobStoppedError("The job must stop: cancelled.")

    def stop() -> None:
        raise error

    def let_in(step: int) -> None:
        if step == 2:
            jobs.start("stopped", LATE, stop)
            jobs.start("small", [PLANS["drawn unconditional"]])
        if step == 3:
            assert [entry[0] for entry in jobs.batch._waiting] == []

    decoder = FakeDecoder(hooks={"step": let_in})
    with Jobs(decoder, BatchLimits(3, ALL_BYTES)) as jobs:
        jobs.start("first", [PLANS["guided"]])
    assert jobs.errors == {"stopped": error}
    assert len(decoder.recall("admit")) == 3
    assert decoder.recall("step")[2] == (0, 2, 1, 2, 2, 0)  # the small one has room from the next step on
