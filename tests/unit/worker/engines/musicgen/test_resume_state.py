"""What an attempt leaves for the next one: written whole, not too often, and no harm when it is damaged."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from shared.jobs import DeviceClass
from shared.kinds.musicgen.parameters import MAX_SEED, MusicgenParams
from shared.settings import Settings
from tests.unit.worker.engines.musicgen.engine_harness import KeptCheckpoint
from worker.engines.interface import JobContext
from worker.engines.musicgen import resume_state
from worker.engines.musicgen.engine import MusicgenEngine
from worker.engines.musicgen.request import Tokens
from worker.engines.musicgen.resume_state import CHECKPOINT_INTERVAL_S, CheckpointWriter, ResumeState


def make_tokens(positions: int) -> Tokens:
    return np.arange(4 * positions, dtype=np.int32).reshape(4, positions) % 2_049


class Clock:
    """The clock of `memo`, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        monkeypatch.setattr(resume_state, "time", SimpleNamespace(monotonic=lambda: self.now_s))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("positions", [(), (1,), (700, 513, 700)])
def test_what_is_written_is_read(positions: tuple[int, ...]) -> None:
    written = ResumeState(MAX_SEED, tuple(make_tokens(count) for count in positions))
    read = ResumeState.read(written.write())
    assert read.seed == MAX_SEED
    assert len(read.tokens) == len(positions)
    for ours, theirs in zip(read.tokens, written.tokens, strict=True):
        assert ours.dtype == np.int32
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        ResumeState(3, (make_tokens(9),)).write()[:-40],
        ResumeState(3, ()).write().replace(b"count", b"cause"),
    ],
    ids=["empty", "other", "cut", "older"],
)
def test_damaged_content_begins_the_job_anew_and_is_logged(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = KeptCheckpoint(earlier=content)
    assignment = JobContext({}, {}, lambda **_: None, lambda *_: None, checkpoint)
    engine = MusicgenEngine(DeviceClass.CPU, Settings())
    with caplog.at_level(logging.ERROR):
        begun = engine._read_memo(assignment, MusicgenParams(seed=11))
    assert (begun.seed, begun.tokens) == (11, ())
    assert "begins anew" in caplog.text
    assert [ResumeState.read(stored).seed for stored in checkpoint.stored] == [11]


def test_the_seed_is_kept_before_anything_is_made() -> None:
    checkpoint = KeptCheckpoint()
    assignment = JobContext({}, {}, lambda **_: None, lambda *_: None, checkpoint)
    engine = MusicgenEngine(DeviceClass.CPU, Settings())
    drawn = engine._read_memo(assignment, MusicgenParams())
    assert 0 <= drawn.seed <= MAX_SEED
    checkpoint.earlier = checkpoint.stored[-1]
    assert engine._read_memo(assignment, MusicgenParams()) == drawn
    assert len(checkpoint.stored) == 1


def test_tokens_are_stored_now_and_then(clock: Clock) -> None:
    checkpoint = KeptCheckpoint()
    recorder = CheckpointWriter(checkpoint, seed=4)
    for step in range(1, 2_001):
        clock.now_s += CHECKPOINT_INTERVAL_S / 100
        recorder.keep([make_tokens(step), make_tokens(step + 1)])
    # Sums of hundredths are not exact: a store may come a step later.
    assert 19 <= len(checkpoint.stored) <= 20
    memos = [ResumeState.read(content) for content in checkpoint.stored]
    assert {each.seed for each in memos} == {4}
    assert memos[0].tokens[0].shape[1] in {100, 101}
    for each in memos:
        np.testing.assert_array_equal(each.tokens[1], make_tokens(each.tokens[0].shape[1] + 1))


def test_the_pace_is_that_of_all_samples_from_the_first_step_on(clock: Clock) -> None:
    recorder = CheckpointWriter(KeptCheckpoint(), seed=4)
    assert recorder.tokens_per_s is None
    clock.now_s += 60  # of compiling
    recorder.keep([make_tokens(50), make_tokens(50)])
    assert recorder.tokens_per_s is None
    clock.now_s += 2
    recorder.keep([make_tokens(60), make_tokens(55)])
    assert recorder.tokens_per_s == pytest.approx(7.5)
    clock.now_s += 3
    recorder.keep([make_tokens(75), make_tokens(75)])
    assert recorder.tokens_per_s == pytest.approx(10)
