"""Jobs that come and go share the batch: each gets what it gets alone, and none waits for samples of another."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.unit.worker.engines.musicgen.decoding.fake_decoder import FakeDecoder
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    ALL_BYTES,
    COMPANY,
    LATE,
    PLANS,
    UNLIMITED,
    Jobs,
    ignore,
    reseed,
)
from worker.engines.musicgen.decoding import scheduler as batch_module
from worker.engines.musicgen.decoding.scheduler import BatchLimits, BatchScheduler


@pytest.mark.parametrize(
    "limits", [UNLIMITED, BatchLimits(5, ALL_BYTES), BatchLimits(None, 500), BatchLimits(1, ALL_BYTES)], ids=str
)
def test_jobs_that_come_while_others_are_in_the_middle_get_what_they_get_alone(limits: BatchLimits) -> None:
    coming = {
        2: reseed(COMPANY[::-1], 20),
        3: reseed(COMPANY[:2], 30),
        5: LATE,
        6: [PLANS["one token"], PLANS["undelayed"]],
        9: [PLANS["clip"], PLANS["unguided"], PLANS["guided"]],
    }

    def let_in(step: int) -> None:
        if step in coming:
            jobs.start(f"from step {step}", coming[step])

    decoder = FakeDecoder(hooks={"step": let_in})
    with Jobs(decoder, limits) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors == {}
    assert len(jobs.tracks) == 1 + len(coming)
    assert (
        len(decoder.recall("admit"))
        == len(decoder.recall("drop"))
        == sum(len(track.texts) for tracks in jobs.tracks.values() for track in tracks)
    )
    if limits == UNLIMITED:
        assert any({0, 6, 12} <= {*step[::2]} for step in decoder.recall("step"))  # rows of three jobs


def test_jobs_that_come_and_go_all_at_once_get_what_they_get_alone() -> None:
    decoder = FakeDecoder()
    batch = BatchScheduler(decoder, BatchLimits(3, ALL_BYTES))
    together = threading.Barrier(4)

    def work(seed: int) -> None:
        together.wait()
        for plan in reseed([PLANS["one token"], PLANS["undelayed"], PLANS["drawn"]] * 4, seed):
            track = plan.make()
            batch.generate([track], ignore, ignore, ignore)
            np.testing.assert_array_equal(track.tokens, plan.expect())

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(work, 100 * index) for index in range(4)]
    for answer in answers:
        answer.result()
    for thread in decoder.threads:
        thread.join()
    assert decoder.rows == {}
    assert batch._thread is None


def test_every_job_is_told_that_something_is_compiled() -> None:
    told: list[str] = []

    def compile_graphs(step: int) -> None:
        if step == 2:
            jobs.start("late", LATE, announce=lambda: told.append("late"))
        if step in {2, 4}:
            decoder.announce(compiling=True)
            decoder.announce(compiling=False)

    decoder = FakeDecoder(hooks={"step": compile_graphs})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY, announce=lambda: told.append("first"))
    assert jobs.errors == {}
    assert told == ["first", "late"] * 2


def test_a_job_is_through_as_soon_as_its_own_samples_are() -> None:
    def look(step: int) -> None:
        if step == 2:
            jobs.start("short", [PLANS["one token"]])
            jobs.start("nothing to generate", [replace(PLANS["clip"], new_tokens=3)])
            jobs.start("no samples", [])
        if step == 3:
            assert len(jobs.batch._parties) == 2
        if step == 4:
            assert len(jobs.batch._parties) == 1

    decoder = FakeDecoder(hooks={"step": look})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY)
    assert jobs.errors == {}
    assert len(decoder.recall("admit")) == 6 + 2


def test_what_is_to_be_kept_is_asked_for_in_the_jobs_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "ON_TOKENS_INTERVAL_S", 0.001)
    kept = {"first": threading.Event(), "second": threading.Event()}
    keeping: dict[str, set[str]] = {name: set() for name in kept}

    def keep(name: str) -> None:
        keeping[name].add(threading.current_thread().name)
        kept[name].set()

    def wait_for_keep(step: int) -> None:
        if step == 2:
            jobs.start("second", LATE, keep=partial(keep, "second"))
            for event in kept.values():
                event.wait()

    decoder = FakeDecoder(hooks={"step": wait_for_keep})
    with Jobs(decoder) as jobs:
        jobs.start("first", COMPANY, keep=partial(keep, "first"))
    assert jobs.errors == {}
    assert keeping == {"first": {"first"}, "second": {"second"}}


def test_a_thread_decodes_for_as_long_as_there_is_something_to_generate() -> None:
    decoder = FakeDecoder(hooks={"step": lambda step: jobs.start("second", LATE) if step == 2 else None})
    with Jobs(decoder) as jobs:
        for number in range(1, 4):
            jobs.start(f"alone {number}", [PLANS["drawn"]])
            jobs.join()
            jobs.check()
            assert len(decoder.threads) == number
            assert not any(thread.is_alive() for thread in decoder.threads)
    assert jobs.errors == {}
    assert len(jobs.tracks) == 4
