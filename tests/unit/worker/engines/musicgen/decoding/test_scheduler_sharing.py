"""Jobs share the batch: each job gets the same tokens as without other jobs, and no job waits for the end of others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.unit.worker.engines.musicgen.decoding.fake_decoder import FakeDecoder
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    ALL_BYTES,
    EMPTY,
    FIRST_JOB,
    LATE_JOB,
    PLANS,
    UNLIMITED,
    Jobs,
    ignore,
    reseed,
)
from worker.engines.musicgen.decoding import scheduler as scheduler_module
from worker.engines.musicgen.decoding.scheduler import BatchEvent, BatchLimits, BatchScheduler, BatchState


@pytest.mark.parametrize(
    "limits", [UNLIMITED, BatchLimits(5, ALL_BYTES), BatchLimits(None, 500), BatchLimits(1, ALL_BYTES)], ids=str
)
def test_jobs_that_start_during_decoding_get_the_same_tokens_as_alone(limits: BatchLimits) -> None:
    late_jobs = {
        2: reseed(FIRST_JOB[::-1], 20),
        3: reseed(FIRST_JOB[:2], 30),
        5: LATE_JOB,
        6: [PLANS["one token"], PLANS["undelayed"]],
        9: [PLANS["clip"], PLANS["unguided"], PLANS["guided"]],
    }

    def start_job(step: int) -> None:
        if step in late_jobs:
            jobs.start(f"from step {step}", late_jobs[step])

    decoder = FakeDecoder(hooks={"step": start_job})
    with Jobs(decoder, limits) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors == {}
    assert len(jobs.sequences) == 1 + len(late_jobs)
    assert (
        len(decoder.list_calls("admit"))
        == len(decoder.list_calls("drop"))
        == sum(len(sequence.slot_texts) for sequences in jobs.sequences.values() for sequence in sequences)
    )
    if limits == UNLIMITED:
        assert any({0, 6, 12} <= {*step[::2]} for step in decoder.list_calls("step"))  # these are slots of three jobs


def test_jobs_in_several_threads_get_the_same_tokens_as_alone() -> None:
    decoder = FakeDecoder()
    events: list[tuple[BatchEvent, BatchState]] = []
    scheduler = BatchScheduler(decoder, BatchLimits(3, ALL_BYTES), lambda *event: events.append(event))
    barrier = threading.Barrier(4)

    def work(seed: int) -> None:
        barrier.wait()
        for plan in reseed([PLANS["one token"], PLANS["undelayed"], PLANS["sampled"]] * 4, seed):
            sequence = plan.build()
            scheduler.generate([sequence], ignore, ignore, ignore)
            np.testing.assert_array_equal(sequence.tokens, plan.compute_expected())

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(work, 100 * index) for index in range(4)]
    for answer in answers:
        answer.result()
    for thread in decoder.threads:
        thread.join()
    assert decoder.slots == {}
    assert events[-1] == (BatchEvent.IDLE, EMPTY)


def test_every_job_is_notified_of_a_compilation() -> None:
    notified: list[str] = []

    def compile_graphs(step: int) -> None:
        if step == 2:
            jobs.start("late", LATE_JOB, on_compile=lambda: notified.append("late"))
        if step in {2, 4}:
            decoder.on_compile(compiling=True)
            decoder.on_compile(compiling=False)

    decoder = FakeDecoder(hooks={"step": compile_graphs})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB, on_compile=lambda: notified.append("first"))
    assert jobs.errors == {}
    assert notified == ["first", "late"] * 2


def test_a_job_ends_as_soon_as_its_own_sequences_are_finished() -> None:
    def start_jobs(step: int) -> None:
        if step == 2:
            jobs.start("short", [PLANS["one token"]])
            jobs.start("nothing to generate", [replace(PLANS["clip"], new_tokens=3)])
            jobs.start("no samples", [])
        if step == 3:
            assert jobs.state.requests == 2
        if step == 4:
            assert jobs.state.requests == 1

    decoder = FakeDecoder(hooks={"step": start_jobs})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB)
    assert jobs.errors == {}
    assert len(decoder.list_calls("admit")) == 6 + 2


def test_the_callback_on_tokens_is_called_in_the_thread_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "ON_TOKENS_INTERVAL_S", 0.001)
    called = {"first": threading.Event(), "second": threading.Event()}
    calling_threads: dict[str, set[str]] = {name: set() for name in called}

    def record_thread(name: str) -> None:
        calling_threads[name].add(threading.current_thread().name)
        called[name].set()

    def wait_for_calls(step: int) -> None:
        if step == 2:
            jobs.start("second", LATE_JOB, on_tokens=partial(record_thread, "second"))
            for event in called.values():
                event.wait()

    decoder = FakeDecoder(hooks={"step": wait_for_calls})
    with Jobs(decoder) as jobs:
        jobs.start("first", FIRST_JOB, on_tokens=partial(record_thread, "first"))
    assert jobs.errors == {}
    assert calling_threads == {"first": {"first"}, "second": {"second"}}


def test_the_decoding_thread_ends_when_nothing_is_left_to_generate() -> None:
    decoder = FakeDecoder(hooks={"step": lambda step: jobs.start("second", LATE_JOB) if step == 2 else None})
    with Jobs(decoder) as jobs:
        for number in range(1, 4):
            jobs.start(f"alone {number}", [PLANS["sampled"]])
            jobs.join()
            jobs.check()
            assert len(decoder.threads) == number
            assert not any(thread.is_alive() for thread in decoder.threads)
    assert jobs.errors == {}
    assert len(jobs.sequences) == 4
