"""Checkpoints of music jobs: complete, not stored too often, and discarded if they cannot be read."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from shared.kinds.musicgen.parameters import MAX_SEED
from shared.kinds.musicgen.seeds import MAX_EXACT
from tests.unit.worker.engines.musicgen.engine_harness import MemoryCheckpoint
from worker.engines.musicgen import music_checkpoint
from worker.engines.musicgen.music_checkpoint import CHECKPOINT_INTERVAL_S, CheckpointWriter, ResumeState
from worker.engines.musicgen.request import Tokens


def make_tokens(positions: int) -> Tokens:
    return np.arange(4 * positions, dtype=np.int32).reshape(4, positions) % 2_049


class Clock:
    """The clock that ``music_checkpoint`` reads; the test sets its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        monkeypatch.setattr(music_checkpoint, "time", SimpleNamespace(monotonic=lambda: self.now_s))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("positions", [(), (1,), (700, 513, 700)])
def test_a_serialized_state_is_parsed_unchanged(positions: tuple[int, ...]) -> None:
    state = ResumeState(MAX_SEED, tuple(make_tokens(count) for count in positions))
    parsed = ResumeState.parse(state.serialize())
    assert parsed.seed == MAX_SEED
    assert len(parsed.tokens) == len(positions)
    for ours, theirs in zip(parsed.tokens, state.tokens, strict=True):
        assert ours.dtype == np.int32
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        ResumeState(3, (make_tokens(9),)).serialize()[:-40],
        ResumeState(3, ()).serialize().replace(b"count", b"cause"),
    ],
    ids=["empty", "not an archive", "cut off", "of an older version"],
)
def test_an_unreadable_checkpoint_is_logged_and_the_job_starts_from_the_beginning(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = MemoryCheckpoint(earlier=content)
    with caplog.at_level(logging.ERROR):
        state = ResumeState.load_or_start(checkpoint, 11)
    assert (state.seed, state.tokens) == (11, ())
    assert "starts from the beginning" in caplog.text
    assert [ResumeState.parse(stored).seed for stored in checkpoint.stored] == [11]


def test_the_seed_is_stored_before_anything_is_generated() -> None:
    checkpoint = MemoryCheckpoint()
    state = ResumeState.load_or_start(checkpoint, None)
    assert 0 <= state.seed < MAX_EXACT
    checkpoint.earlier = checkpoint.stored[-1]
    assert ResumeState.load_or_start(checkpoint, None) == state
    assert len(checkpoint.stored) == 1


def test_tokens_are_stored_once_per_interval(clock: Clock) -> None:
    checkpoint = MemoryCheckpoint()
    writer = CheckpointWriter(checkpoint, seed=4)
    for step in range(1, 2_001):
        clock.now_s += CHECKPOINT_INTERVAL_S / 100
        writer.update([make_tokens(step), make_tokens(step + 1)])
    # Sums of hundredths of the interval are not exact, so a checkpoint may be stored one step late.
    assert 19 <= len(checkpoint.stored) <= 20
    states = [ResumeState.parse(content) for content in checkpoint.stored]
    assert {state.seed for state in states} == {4}
    assert states[0].tokens[0].shape[1] in {100, 101}
    for state in states:
        np.testing.assert_array_equal(state.tokens[1], make_tokens(state.tokens[0].shape[1] + 1))


def test_the_speed_counts_the_tokens_of_all_samples_after_the_first_update(clock: Clock) -> None:
    writer = CheckpointWriter(MemoryCheckpoint(), seed=4)
    assert writer.tokens_per_s is None
    clock.now_s += 60  # the speed must not include this minute of compilation
    writer.update([make_tokens(50), make_tokens(50)])
    assert writer.tokens_per_s is None
    clock.now_s += 2
    writer.update([make_tokens(60), make_tokens(55)])
    assert writer.tokens_per_s == pytest.approx(7.5)
    clock.now_s += 3
    writer.update([make_tokens(75), make_tokens(75)])
    assert writer.tokens_per_s == pytest.approx(10)
