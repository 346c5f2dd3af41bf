"""A job that is stopped or fails does not end other jobs; if the decoder fails, no job waits forever."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import JobFailedError, JobStoppedError
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import Call, FakeDecoder, Logits
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    ALL_BYTES,
    FIRST_JOB,
    GREEDY,
    GUIDED,
    JAZZ,
    LATE_JOB,
    PLANS,
    ROCK,
    SAMPLED,
    Jobs,
    Plan,
    generate,
    ignore,
    make_stop,
    reseed,
)
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.request import Sampling

LATE_SLOTS = {6, 7, 8, 9}


@pytest.mark.parametrize("stop_after", range(8))
def test_a_job_ends_at_once_when_the_callback_on_step_raises_an_error(stop_after: int) -> None:
    decoder = FakeDecoder()
    calls_before: list[list[Call]] = []

    def stop() -> None:
        calls_before.append(decoder.calls.copy())
        if len(calls_before) > stop_after:
            raise make_stop()

    sequence = PLANS["clip and text"].build()
    with pytest.raises(JobStoppedError):
        generate(decoder, [sequence], stop)
    assert [call for call in decoder.calls if call[0] != "drop"] == calls_before[-1]
    assert sum(call[0] in {"feed", "step"} for call in decoder.calls) == stop_after
    assert sequence.known_length == sequence.given_length + len(decoder.list_calls("step"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", [GREEDY, GUIDED, SAMPLED], ids=["greedy", "guided", "sampled"])
@pytest.mark.parametrize("slots", [[0], [1], [0, 1]], ids=["first slot", "second slot", "both slots"])
def test_logits_that_are_not_finite_fail_the_job(value: float, sampling: Sampling, slots: list[int]) -> None:
    def damage(step: int, _: Sequence[int], logits: Logits) -> None:
        if step == 3:
            logits[slots, 2, 7] = value

    plan = Plan(ROCK, sampling)
    second = Plan(JAZZ, replace(sampling, guidance_scale=1.0))
    plans = [plan] if len(plan.build().slot_texts) == 2 else [plan, second]
    with pytest.raises(JobFailedError) as caught:
        generate(FakeDecoder(damage=damage), [plan.build() for plan in plans], ignore)
    assert caught.value.type == "not-finite"
    assert (caught.value.text.code, caught.value.text.values) == ("logits-not-finite", {"position": 3})
    assert "position 3" in caught.value.detail
    assert "float32" in caught.value.detail


@pytest.mark.parametrize("stop_after", [0, 1, 2, 4, 9])
def test_a_stop_ends_only_the_stopped_job(stop_after: int) -> None:
    error = make_stop()
    calls: list[int] = []

    def stop() -> None:
        calls.append(len(calls))
        if len(calls) > stop_after:
            raise error

    decoder = FakeDecoder(hooks={"step": lambda step: jobs.start("stopped", LATE_JOB, stop) if step == 2 else None})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors == {"stopped": error}
    assert jobs.errors["stopped"] is error
    assert len(calls) == stop_after + 1
    assert len(decoder.list_calls("admit")) == (6 if stop_after == 0 else 10)


@pytest.mark.parametrize("damaged", [{6}, {7}, {8}, {9}, {7, 8}, LATE_SLOTS], ids=str)
def test_logits_that_are_not_finite_end_only_their_own_job(damaged: set[int]) -> None:
    def damage(step: int, slots: Sequence[int], logits: Logits) -> None:
        if step > 6:
            logits[[slot in damaged for slot in slots]] = np.nan

    decoder = FakeDecoder(
        damage=damage, hooks={"step": lambda step: jobs.start("damaged", LATE_JOB) if step == 2 else None}
    )
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors.keys() == {"damaged"}
    error = jobs.errors["damaged"]
    assert isinstance(error, JobFailedError)
    assert error.type == "not-finite"
    # All sequences of the job leave the batch together with the damaged sequence.
    assert not any(LATE_SLOTS & {*step[::2]} for step in decoder.list_calls("step")[7:])


@pytest.mark.parametrize("damaged", [0, 1], ids=["fails first", "finishes first"])
def test_a_job_fails_if_one_sequence_finishes_in_the_step_in_which_another_fails(damaged: int) -> None:
    plans = [Plan(ROCK, GREEDY, new_tokens=8 if index == damaged else 5) for index in range(2)]

    def damage(step: int, _: Sequence[int], logits: Logits) -> None:
        if step == 5:
            logits[damaged] = np.nan

    decoder = FakeDecoder(
        damage=damage, hooks={"step": lambda step: jobs.start("late", LATE_JOB) if step == 2 else None}
    )
    with Jobs(decoder) as jobs:
        jobs.start("damaged", plans)
    assert {name: type(error) for name, error in jobs.errors.items()} == {"damaged": JobFailedError}


@pytest.mark.parametrize("refused", [7, 8, 9, 10])
def test_a_refused_slot_ends_only_the_job_that_requested_the_slot(refused: int) -> None:
    error = MemoryError("no memory for a slot")

    def refuse(admitted: int) -> None:
        if admitted == refused:
            raise error

    decoder = FakeDecoder(
        hooks={"admit": refuse, "step": lambda step: jobs.start("refused", LATE_JOB) if step == 2 else None}
    )
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors.keys() == {"refused"}
    assert jobs.errors["refused"] is error
    assert len(decoder.list_calls("admit")) == refused  # after that, the job requests no further slot


@pytest.mark.parametrize("method", ["step", "feed", "admit"])
def test_a_stop_during_compilation_ends_only_the_stopped_job(method: str) -> None:
    """In the engine, both ``on_compile`` and ``on_step`` raise an exception if the job must stop."""
    error = make_stop()

    def stop() -> None:
        raise error

    def compile_graphs(_: int) -> None:
        if 3 <= len(decoder.list_calls("step")) < 6:
            decoder.on_compile(compiling=True)

    def start_jobs(step: int) -> None:
        if step == 2:
            jobs.start("stopped", LATE_JOB, on_compile=stop)
        if step == 3:
            jobs.start("third", reseed(LATE_JOB, 30))
        if method == "step":
            compile_graphs(step)

    decoder = FakeDecoder(hooks={method: compile_graphs, "step": start_jobs})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors == {"stopped": error}


@pytest.mark.parametrize("way", ["stopped", "damaged"])
def test_waiting_sequences_of_a_failed_job_are_not_admitted(way: str) -> None:
    error = make_stop()

    def stop() -> None:
        if way == "stopped" and len(decoder.list_calls("step")) == 3:
            raise error

    def damage(step: int, slots: Sequence[int], logits: Logits) -> None:
        if way == "damaged" and step == 3:
            logits[slots.index(0)] = np.nan

    decoder = FakeDecoder(
        damage=damage, hooks={"step": lambda step: jobs.start("second", FIRST_JOB[:2]) if step == 2 else None}
    )
    with Jobs(decoder, BatchLimits(2, ALL_BYTES)) as jobs:
        jobs.start("failed", LATE_JOB, stop)
    assert jobs.errors.keys() == {"failed"}
    assert len(decoder.list_calls("admit")) == 2 + 3


@pytest.mark.parametrize("method", ["step", "feed"])
def test_an_error_of_the_decoder_ends_all_active_jobs_and_the_next_job_succeeds(method: str) -> None:
    error = RuntimeError("the model is broken")
    raised_in: list[str] = []

    def fail_once(_: int) -> None:
        if not raised_in and len(decoder.list_calls("step")) == 4:
            raised_in.append(method)
            raise error

    def start_jobs(step: int) -> None:
        if step in {2, 4} and not raised_in:
            jobs.start(f"from step {step}", reseed(LATE_JOB, step))
        if method == "step":
            fail_once(step)

    decoder = FakeDecoder(1, hooks={method: fail_once, "step": start_jobs})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB)
        jobs.join()
        assert raised_in == [method]
        assert {"first", "from step 2"} <= jobs.errors.keys()
        assert {id(each) for each in jobs.errors.values()} == {id(error)}
        assert decoder.slots == {}
        jobs.start("next", FIRST_JOB)
    assert "next" not in jobs.errors


def test_an_error_of_the_decoder_does_not_end_waiting_jobs() -> None:
    error = RuntimeError("the model is broken")

    def start_and_fail(step: int) -> None:
        if step == 2:
            jobs.start("waits for slots", LATE_JOB)
        if step == 4:
            jobs.start("was queued just now", reseed(LATE_JOB, 30))
            raise error

    decoder = FakeDecoder(hooks={"step": start_and_fail})
    with Jobs(decoder, BatchLimits(6, ALL_BYTES)) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors == {"first": error}


@pytest.mark.parametrize("way", ["stopped", "damaged", "broken", "finished"])
def test_every_job_ends_if_a_slot_cannot_be_dropped(way: str) -> None:
    error = RuntimeError("the device is gone")

    def stop() -> None:
        if way == "stopped" and len(decoder.list_calls("step")) == 3:
            raise make_stop()

    def damage(step: int, _: Sequence[int], logits: Logits) -> None:
        if way == "damaged" and step == 3:
            logits[0] = np.nan

    def start_and_fail(step: int) -> None:
        if step == 2:
            jobs.start("second", LATE_JOB)
        if way == "broken" and step == 3:
            raise error

    def fail_first(dropped: int) -> None:
        if dropped == 1:
            raise error

    decoder = FakeDecoder(damage=damage, hooks={"step": start_and_fail, "drop": fail_first})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB, stop)
        jobs.join()
        jobs.start("next", LATE_JOB)
    assert "next" not in jobs.errors
