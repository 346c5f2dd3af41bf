"""What stops or breaks one job of the batch is its own; what breaks the decoder leaves nobody without an answer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import JobFailedError, JobStoppedError
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import Call, FakeDecoder, Logits
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    ALL_BYTES,
    COMPANY,
    DRAWN,
    GREEDY,
    GUIDED,
    JAZZ,
    LATE,
    PLANS,
    ROCK,
    Jobs,
    Plan,
    generate,
    ignore,
    reseed,
)
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.request import Sampling


@pytest.mark.parametrize("told", range(8))
def test_is_stopped_by_what_it_tells_at_once(told: int) -> None:
    decoder = FakeDecoder()
    before: list[list[Call]] = []

    def tell() -> None:
        before.append(decoder.calls.copy())
        if len(before) > told:
            raise JobStoppedError("The job must stop: cancelled.")

    track = PLANS["clip and text"].make()
    with pytest.raises(JobStoppedError):
        generate(decoder, [track], tell)
    assert [call for call in decoder.calls if call[0] != "drop"] == before[-1]
    assert sum(call[0] in {"feed", "step"} for call in decoder.calls) == told
    assert track.known == track.first + len(decoder.recall("step"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", [GREEDY, GUIDED, DRAWN], ids=["greedy", "guided", "drawn"])
@pytest.mark.parametrize("rows", [[0], [1], [0, 1]], ids=["one row", "the other", "both"])
def test_tells_of_logits_that_are_no_numbers(value: float, sampling: Sampling, rows: list[int]) -> None:
    def damage(step: int, _: Sequence[int], logits: Logits) -> None:
        if step == 3:
            logits[rows, 2, 7] = value

    plan = Plan(ROCK, sampling)
    second = Plan(JAZZ, replace(sampling, guidance_scale=1.0))
    plans = [plan] if len(plan.make().texts) == 2 else [plan, second]
    with pytest.raises(JobFailedError) as caught:
        generate(FakeDecoder(damage=damage), [plan.make() for plan in plans], ignore)
    assert caught.value.type == "not-finite"
    assert "position 3" in caught.value.detail
    assert "float32" in caught.value.detail


@pytest.mark.parametrize("told", [0, 1, 2, 4, 9])
def test_a_stop_is_one_jobs_own(told: int) -> None:
    error = JobStoppedError("The job must stop: cancelled.")
    tells: list[int] = []

    def stop() -> None:
        tells.append(len(tells))
        if len(tells) > told:
            raise error

    decoder = FakeDecoder(hooks={"step": lambda step: jobs.start("stopped", LATE, stop) if step == 2 else None})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors == {"stopped": error}
    assert jobs.errors["stopped"] is error
    assert len(tells) == told + 1
    assert len(decoder.recall("admit")) == (6 if told == 0 else 10)


@pytest.mark.parametrize("rows", [{6}, {7}, {8}, {9}, {7, 8}, {6, 7, 8, 9}], ids=str)
def test_logits_that_are_no_numbers_are_one_jobs_own(rows: set[int]) -> None:
    def damage(step: int, stepping: Sequence[int], logits: Logits) -> None:
        if step > 6:
            logits[[row in rows for row in stepping]] = np.nan

    decoder = FakeDecoder(
        damage=damage, hooks={"step": lambda step: jobs.start("damaged", LATE) if step == 2 else None}
    )
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors.keys() == {"damaged"}
    error = jobs.errors["damaged"]
    assert isinstance(error, JobFailedError)
    assert error.type == "not-finite"
    assert not any({6, 7, 8, 9} & {*step[::2]} for step in decoder.recall("step")[7:])  # all leave with the first


@pytest.mark.parametrize("broken", [0, 1], ids=["breaks first", "finishes first"])
def test_a_sample_may_finish_in_the_step_that_breaks_another_of_its_job(broken: int) -> None:
    plans = [Plan(ROCK, GREEDY, new_tokens=8 if index == broken else 5) for index in range(2)]

    def damage(step: int, _: Sequence[int], logits: Logits) -> None:
        if step == 5:
            logits[broken] = np.nan

    decoder = FakeDecoder(damage=damage, hooks={"step": lambda step: jobs.start("late", LATE) if step == 2 else None})
    with Jobs(decoder) as jobs:
        jobs.start("damaged", plans)
    assert {name: type(error) for name, error in jobs.errors.items()} == {"damaged": JobFailedError}


@pytest.mark.parametrize("refused", [7, 8, 9, 10])
def test_a_row_that_is_not_to_be_had_is_one_jobs_own(refused: int) -> None:
    error = MemoryError("no room for a row")

    def refuse(admitted: int) -> None:
        if admitted == refused:
            raise error

    decoder = FakeDecoder(
        hooks={"admit": refuse, "step": lambda step: jobs.start("refused", LATE) if step == 2 else None}
    )
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors.keys() == {"refused"}
    assert jobs.errors["refused"] is error
    assert len(decoder.recall("admit")) == refused  # and no more are tried


@pytest.mark.parametrize("kind", ["step", "feed", "admit"])
def test_a_stop_that_comes_while_something_is_compiled_is_one_jobs_own(kind: str) -> None:
    """What the engine gives for ``announce`` raises when the job must stop, as what it gives for ``tell`` does."""
    error = JobStoppedError("The job must stop: cancelled.")

    def stop() -> None:
        raise error

    def compile_graphs(_: int) -> None:
        if 3 <= len(decoder.recall("step")) < 6:
            decoder.announce(compiling=True)

    def let_in(step: int) -> None:
        if step == 2:
            jobs.start("stopped", LATE, announce=stop)
        if step == 3:
            jobs.start("third", reseed(LATE, 30))
        if kind == "step":
            compile_graphs(step)

    decoder = FakeDecoder(hooks={kind: compile_graphs, "step": let_in})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors == {"stopped": error}


@pytest.mark.parametrize("way", ["stopped", "damaged"])
def test_of_a_job_that_breaks_no_other_sample_enters(way: str) -> None:
    error = JobStoppedError("The job must stop: cancelled.")

    def stop() -> None:
        if way == "stopped" and len(decoder.recall("step")) == 3:
            raise error

    def damage(step: int, rows: Sequence[int], logits: Logits) -> None:
        if way == "damaged" and step == 3:
            logits[rows.index(0)] = np.nan

    decoder = FakeDecoder(
        damage=damage, hooks={"step": lambda step: jobs.start("second", COMPANY[:2]) if step == 2 else None}
    )
    with Jobs(decoder, BatchLimits(2, ALL_BYTES)) as jobs:
        jobs.start("broken", LATE, stop)
    assert jobs.errors.keys() == {"broken"}
    assert len(decoder.recall("admit")) == 2 + 3


@pytest.mark.parametrize("kind", ["step", "feed"])
def test_what_breaks_the_decoder_is_told_to_all_who_compute_and_the_next_job_works(kind: str) -> None:
    error = RuntimeError("the network is broken")
    broken: list[str] = []

    def fall_over(_: int) -> None:
        if not broken and len(decoder.recall("step")) == 4:
            broken.append(kind)
            raise error

    def let_in(step: int) -> None:
        if step in {2, 4} and not broken:
            jobs.start(f"from step {step}", reseed(LATE, step))
        if kind == "step":
            fall_over(step)

    decoder = FakeDecoder(1, hooks={kind: fall_over, "step": let_in})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY)
        jobs.join()
        assert broken == [kind]
        assert {"first", "from step 2"} <= jobs.errors.keys()
        assert {id(each) for each in jobs.errors.values()} == {id(error)}
        assert decoder.rows == {}
        jobs.start("next", COMPANY)
    assert "next" not in jobs.errors


def test_what_breaks_the_decoder_is_told_to_none_who_do_not_compute() -> None:
    error = RuntimeError("the network is broken")

    def fall_over(step: int) -> None:
        if step == 2:
            jobs.start("waits for room", LATE)
        if step == 4:
            jobs.start("has just come", reseed(LATE, 30))
            raise error

    decoder = FakeDecoder(hooks={"step": fall_over})
    with Jobs(decoder, BatchLimits(6, ALL_BYTES)) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors == {"first": error}


@pytest.mark.parametrize("way", ["stopped", "damaged", "broken", "finished"])
def test_a_row_that_cannot_be_dropped_leaves_nobody_without_an_answer(way: str) -> None:
    error = RuntimeError("the device is gone")

    def stop() -> None:
        if way == "stopped" and len(decoder.recall("step")) == 3:
            raise JobStoppedError("The job must stop: cancelled.")

    def damage(step: int, _: Sequence[int], logits: Logits) -> None:
        if way == "damaged" and step == 3:
            logits[0] = np.nan

    def fall_over(step: int) -> None:
        if step == 2:
            jobs.start("second", LATE)
        if way == "broken" and step == 3:
            raise error

    def fail(dropped: int) -> None:
        if dropped == 1:
            raise error

    decoder = FakeDecoder(damage=damage, hooks={"step": fall_over, "drop": fail})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY, stop)
        jobs.join()
        assert not any(isinstance(each, AssertionError) for each in jobs.errors.values())
        jobs.start("next", LATE)
    assert "next" not in jobs.errors
