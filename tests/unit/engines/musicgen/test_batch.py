"""The batch gives each sample its own music, whatever runs beside it, comes, leaves, breaks or interrupted it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailedError, JobStoppedError
from tests.references.musicgen_cases import CASES, TINY, Case
from tests.unit.engines.musicgen.shapes import shape_decoder
from worker.engines.musicgen import batch as batch_module
from worker.engines.musicgen.batch import Batch, Limits
from worker.engines.musicgen.composer import Sampling, Tokens
from worker.engines.musicgen.decoder import Announce, TextStates, ignore_compiling
from worker.engines.musicgen.delay import TO_GENERATE, lay_out, take_out
from worker.engines.musicgen.draws import draw_uniforms
from worker.engines.musicgen.sampling import choose_tokens
from worker.engines.musicgen.track import Track

CONFIG = shape_decoder(replace(TINY, codebook_size=40))
GREEDY = Sampling(do_sample=False, guidance_scale=1.0, temperature=1.0, top_k=0, top_p=1.0)
GUIDED = replace(GREEDY, guidance_scale=3.0)
DRAWN = Sampling(do_sample=True, guidance_scale=2.5, temperature=1.3, top_k=25, top_p=0.9)
ROCK = TextStates(np.full((3, 8), 1, dtype=np.float32))
JAZZ = TextStates(np.full((5, 8), 2, dtype=np.float32))
FUNK = TextStates(np.full((4, 8), 3, dtype=np.float32))

ALL_BYTES = 10**9
UNLIMITED = Limits(None, ALL_BYTES)

Logits = NDArray[np.float32]
Call = tuple[str | int, ...]
Hook = Callable[[int], None]
"""Called with how many calls of a kind there have been, this one included; may raise."""


def ignore() -> None:
    """Take no notice."""


def compute(text: TextStates | None, tokens: Tokens) -> Logits:
    """Make logits of a text and all the tokens so far."""
    random = np.random.default_rng([0 if text is None else int(text.states[0, 0]), *tokens.T.ravel()])
    return (2 * random.standard_normal((CONFIG.codebooks, CONFIG.vocabulary))).astype(np.float32)


class FakeDecoder:
    """Rows that remember what they read, and check that it comes in order; what they answer is overwritten.

    Parameters
    ----------
    hooks
        One for each kind of call that a test wants to meddle with.
    """

    def __init__(
        self,
        chunk: int = 4,
        damage: Callable[[int, Sequence[int], Logits], None] = lambda *_: None,
        hooks: Mapping[str, Hook] | None = None,
    ) -> None:
        self.chunk = chunk
        self.announce: Announce = ignore_compiling
        self.calls: list[Call] = []
        self.threads: list[threading.Thread] = []
        self.rows: dict[int, TextStates | None] = {}
        self.rows_most = 0
        self.admitted: list[int] = []
        self._damage = damage
        self._hooks = hooks or {}
        self._lengths: dict[int, int] = {}
        self._read: dict[int, Tokens] = {}
        self._logits = np.zeros((0, CONFIG.codebooks, CONFIG.vocabulary), dtype=np.float32)

    def count_bytes(self, length: int) -> int:
        return 10 * length

    def admit(self, text: TextStates | None, length: int) -> int:
        row = len(self.recall("admit"))
        self._note("admit", row)
        self.rows[row] = text
        self.admitted.append(length)
        self.rows_most = max(self.rows_most, len(self.rows))
        self._lengths[row] = length
        self._read[row] = np.zeros((CONFIG.codebooks, 0), dtype=np.int32)
        return row

    def drop(self, row: int) -> None:
        for held in (self.rows, self._lengths, self._read):
            del held[row]
        self._note("drop", row)

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        assert 1 <= tokens.shape[1] <= self.chunk
        self._note("feed", row, position, tokens.shape[1])
        self._take(row, tokens, position)

    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> Logits:
        assert tokens.shape == (len(rows), CONFIG.codebooks)
        assert positions.shape == (len(rows),)
        assert tokens.dtype == positions.dtype == np.int32
        assert len(set(rows)) == len(rows) > 0
        self._note("step", *(place for pair in zip(rows, positions.tolist(), strict=True) for place in pair))
        self._logits[:] = np.nan  # what it gave before is valid no more
        for row, read, position in zip(rows, tokens, positions, strict=True):
            self._take(row, read[:, None], position)
        self._logits = np.stack([compute(self.rows[row], self._read[row]) for row in rows])
        self._damage(len(self.recall("step")), rows, self._logits)
        return self._logits

    def recall(self, kind: str) -> list[Call]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def list_positions(self) -> list[list[Any]]:
        """List the positions of each step's rows."""
        return [list(step[1::2]) for step in self.recall("step")]

    def _note(self, kind: str, *facts: int) -> None:
        thread = threading.current_thread()
        if thread not in self.threads:
            assert thread.name == "decode"
            assert self.rows == {}  # whoever used it before is through
            self.threads.append(thread)
        assert thread is self.threads[-1]
        self.calls.append((kind, *facts))
        if kind in self._hooks:
            self._hooks[kind](len(self.recall(kind)))

    def _take(self, row: int, tokens: Tokens, position: int) -> None:
        assert row in self.rows
        assert position == self._read[row].shape[1]
        assert position + tokens.shape[1] <= self._lengths[row]
        assert ((tokens >= 0) & (tokens <= CONFIG.start)).all()
        self._read[row] = np.concatenate([self._read[row], tokens], axis=1)


def generate(
    decoder: FakeDecoder, tracks: Sequence[Track], tell: Callable[[], None], limits: Limits = UNLIMITED
) -> None:
    """Generate for one job."""
    batch = Batch(decoder, limits)
    try:
        batch.generate(tracks, tell, ignore, ignore)
    finally:
        assert decoder.rows == {}
        for thread in decoder.threads:
            thread.join()


@dataclass
class Plan:
    """What a track is made of, so that it can be made again."""

    text: TextStates | None
    sampling: Sampling
    new_tokens: int = 12
    prompt_frames: int = 0
    seed: int = 3
    pattern: Tokens = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.prompt_frames)
        prompt = random.integers(CONFIG.vocabulary, size=(CONFIG.codebooks, self.prompt_frames), dtype=np.int16)
        self.pattern = lay_out(prompt, self.new_tokens, CONFIG)

    def make(self, resumed: Tokens | None = None) -> Track:
        return Track(self.pattern, self.text, self.sampling, self.seed, resumed)

    def expect(self) -> Tokens:
        """Generate without the loop: one token after the other, all read anew each time."""
        tokens = self.pattern.copy()
        for position in range(1 + self.prompt_frames, tokens.shape[1]):
            logits = compute(self.text, tokens[:, :position])
            if self.text is not None and self.sampling.guidance_scale > 1:
                without = compute(None, tokens[:, :position])
                logits = without + (logits - without) * np.float32(self.sampling.guidance_scale)
            uniforms = draw_uniforms(self.seed, position, *logits.shape)
            chosen = choose_tokens(logits, self.sampling, uniforms)
            tokens[:, position] = np.where(tokens[:, position] == TO_GENERATE, chosen, tokens[:, position])
        return tokens


def run(plans: Sequence[Plan], decoder: FakeDecoder | None = None) -> FakeDecoder:
    """Generate, and compare each track with what it is alone and without the loop."""
    tracks = [plan.make() for plan in plans]
    decoder = decoder or FakeDecoder()
    generate(decoder, tracks, ignore)
    for track, plan in zip(tracks, plans, strict=True):
        assert track.finished
        np.testing.assert_array_equal(track.tokens, plan.expect())
        codes = take_out(track.tokens, CONFIG)
        assert ((codes >= 0) & (codes < CONFIG.vocabulary)).all()
    return decoder


PLANS = {
    "unguided": Plan(ROCK, GREEDY),
    "guided": Plan(ROCK, GUIDED),
    "unconditional": Plan(None, GUIDED),
    "drawn": Plan(ROCK, DRAWN),
    "drawn unconditional": Plan(None, DRAWN),
    "clip": Plan(None, DRAWN, prompt_frames=9),
    "clip and text": Plan(JAZZ, DRAWN, prompt_frames=9),
    "undelayed": Plan(JAZZ, DRAWN, new_tokens=3),
    "one token": Plan(JAZZ, GUIDED, new_tokens=1),
    "clip and one frame": Plan(JAZZ, DRAWN, new_tokens=4, prompt_frames=6),
}
COMPANY = [
    Plan(ROCK, DRAWN, new_tokens=8, seed=1),
    Plan(None, DRAWN, new_tokens=14, seed=2),
    Plan(JAZZ, GREEDY, new_tokens=6, prompt_frames=7),
    Plan(JAZZ, DRAWN, new_tokens=11, prompt_frames=3, seed=1),
]


def sample_of(tracks: Sequence[Track], row: int) -> int:
    """Find the sample that has a row, of samples that entered one after the other and were the first to."""
    return int(np.searchsorted(np.cumsum([len(track.texts) for track in tracks]), row, side="right"))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_track_alone(plan: Plan) -> None:
    run([plan])


def test_the_fake_music_tells_things_apart() -> None:
    def make(plan: Plan) -> bytes:
        return plan.expect().tobytes()

    plan = PLANS["drawn"]
    others = [
        replace(plan, text=JAZZ),
        replace(plan, text=None),
        replace(plan, seed=4),
        replace(plan, sampling=GUIDED),
        replace(plan, sampling=replace(DRAWN, guidance_scale=1.0)),
    ]
    assert len({make(each) for each in [plan, *others]}) == 6


def test_guided_tracks_have_a_second_row_and_others_do_not() -> None:
    assert [len(plan.make().texts) for plan in COMPANY] == [2, 1, 1, 2]
    assert len(run(COMPANY).recall("admit")) == 6
    assert run([PLANS["unconditional"]]).recall("admit") == [(0,)]


def test_company_of_every_kind_and_length_changes_nothing() -> None:
    run(COMPANY)
    run(COMPANY[::-1])


def test_a_row_that_is_done_leaves_at_once() -> None:
    decoder = run([Plan(None, DRAWN, new_tokens=7), Plan(ROCK, DRAWN, new_tokens=9)])
    assert decoder.list_positions() == [[position] * 3 for position in range(7)] + [[7, 7], [8, 8]]
    assert decoder.recall("drop") == [(0,), (1,), (2,)]
    assert decoder.calls.index(("drop", 0)) < decoder.calls.index(("step", 1, 7, 2, 7))


@pytest.mark.parametrize("chunk", [1, 4, 5, 9, 10, 64])
def test_what_is_known_is_read_once_in_chunks(chunk: int) -> None:
    plan = PLANS["clip and text"]
    decoder = run([plan], FakeDecoder(chunk))
    known = 9  # with the start token they are ten; the first step reads the last
    for row in (0, 1):
        fed = [(position, count) for feed_row, position, count in decoder.recall("feed") if feed_row == row]
        assert fed == [(start, min(chunk, known - start)) for start in range(0, known, chunk)]
    assert decoder.list_positions() == [[position] * 2 for position in range(known, known + plan.new_tokens)]


@pytest.mark.parametrize("plan", COMPANY, ids=["drawn", "unconditional", "clip", "clip and text"])
def test_a_resumed_track_goes_on_as_if_nothing_had_happened(plan: Plan) -> None:
    expected = plan.expect()
    first = plan.make().known
    for known in range(expected.shape[1] + 1):
        track = plan.make(expected[:, :known])
        assert track.known == max(known, first)
        assert track.first == first
        decoder = FakeDecoder()
        generate(decoder, [track], ignore)
        np.testing.assert_array_equal(track.tokens, expected)
        assert len(decoder.recall("step")) == expected.shape[1] - max(known, first)


def test_tracks_resumed_at_different_places_keep_company() -> None:
    expected = [plan.expect() for plan in COMPANY]
    tracks = [
        plan.make(tokens[:, :known]) for plan, tokens, known in zip(COMPANY, expected, (9, 3, 0, 12), strict=True)
    ]
    generate(FakeDecoder(3), tracks, ignore)
    for track, tokens in zip(tracks, expected, strict=True):
        np.testing.assert_array_equal(track.tokens, tokens)


def test_a_track_keeps_neither_the_pattern_nor_what_it_resumes() -> None:
    plan = PLANS["drawn"]
    before = plan.pattern.copy()
    resumed = plan.expect()[:, :5]
    kept = resumed.copy()
    track = plan.make(resumed)
    generate(FakeDecoder(), [track], ignore)
    track.tokens[:] = 0
    np.testing.assert_array_equal(plan.pattern, before)
    np.testing.assert_array_equal(resumed, kept)


@pytest.mark.parametrize("new_tokens", [1, 2, 3])
def test_where_the_delays_take_all_the_tokens_nothing_is_generated(new_tokens: int) -> None:
    plan = Plan(ROCK, DRAWN, new_tokens=new_tokens, prompt_frames=9)
    track = plan.make()
    assert track.finished
    decoder = FakeDecoder()
    generate(decoder, [track], ignore)
    assert decoder.recall("step") == []
    np.testing.assert_array_equal(track.tokens, plan.pattern)


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_logits_of_transformers_give_the_tokens_of_transformers(case: Case) -> None:
    """Guidance, temperature, top-k, top-p and draws together, at the positions whose logits were kept."""
    arrays, order = case.read(), case.order()
    samples = len(case.prompts)
    text = None if case.prompts[0] is None else ROCK
    replayed = 0
    for index, (sample, tokens) in enumerate(zip(order.samples, arrays["tokens"].astype(np.int32), strict=True)):
        prompt = arrays["prompt_codes"][index] if case.clips else None
        pattern = lay_out(prompt, order.new_tokens, shape_decoder(case.model.size))
        for place, position in enumerate(arrays["positions"].tolist()):
            track = Track(pattern, text, order.sampling, sample.seed, tokens[:, : position + 1])
            assert (len(track.texts) == 2) == case.guided
            if track.position == position and not track.finished:
                logits = arrays["logits"][:, :, place]
                track.extend(logits[index], logits[samples + index] if case.guided else None)
                np.testing.assert_array_equal(track.tokens[:, position + 1], tokens[:, position + 1])
                replayed += 1
    assert replayed or case.name == "clip_least"  # where nothing is generated


class Parties(list[Any]):
    """The jobs that a batch has, which tells when one has come."""

    def __init__(self) -> None:
        super().__init__()
        self.come = threading.Semaphore(0)

    def append(self, party: Any) -> None:
        super().append(party)
        self.come.release()


class Jobs:
    """Jobs in threads of their own, none of which outlives the block.

    At its end each job has its answer, those without an error have what they make
    alone, no row is left, and nobody decodes.
    """

    def __init__(self, decoder: FakeDecoder, limits: Limits = UNLIMITED) -> None:
        self.batch = Batch(decoder, limits)
        self.errors: dict[str, BaseException] = {}
        self.tracks: dict[str, list[Track]] = {}
        self._decoder = decoder
        self._plans: dict[str, Sequence[Plan]] = {}
        self._parties = Parties()
        self.batch._parties = self._parties
        self._threads: list[threading.Thread] = []
        self._others = {*threading.enumerate()}
        self._over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._over.set()
        self.join()
        if error is None:
            self.check()

    def start(
        self,
        name: str,
        plans: Sequence[Plan],
        tell: Callable[[], None] = ignore,
        announce: Callable[[], None] = ignore,
        keep: Callable[[], None] = ignore,
    ) -> None:
        """Start a job, and go on when the batch has it."""
        tracks = [plan.make() for plan in plans]
        self._plans[name], self.tracks[name] = plans, tracks

        def tell_unless_over() -> None:
            assert threading.current_thread().name == "decode"
            self._threads.append(threading.current_thread())
            if self._over.is_set():
                raise JobStoppedError("The test is over.")
            tell()

        def work() -> None:
            try:
                self.batch.generate(tracks, tell_unless_over, announce, keep)
            except BaseException as error:  # noqa: BLE001 - each test says which it wants
                self.errors[name] = error

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        self._parties.come.acquire()
        with self.batch._lock:  # the samples are there as well, and somebody who decodes
            pass

    def join(self) -> None:
        """Wait until all jobs have their answers and nobody decodes."""
        while (decoding := self.batch._thread) is not None and decoding.is_alive():
            decoding.join()
        for party in self._parties:  # where the thread has broken down; nobody would ever tell them
            if not party.done.done():
                party.done.set_exception(AssertionError("left without an answer"))
        for thread in {*self._threads, *self._decoder.threads}:
            thread.join()

    def check(self) -> None:
        """Compare what was made with what each job makes alone, and see that nothing is left."""
        for name in self.tracks.keys() - self.errors.keys():
            for track, plan in zip(self.tracks[name], self._plans[name], strict=True):
                np.testing.assert_array_equal(track.tokens, plan.expect(), name)
        assert self._decoder.rows == {}
        assert self.batch._thread is None
        assert self.batch._parties == []
        assert [*self.batch._waiting] == []
        assert self.batch._seats == []
        assert "decode" not in {thread.name for thread in {*threading.enumerate()} - self._others}


def reseed(plans: Sequence[Plan], seed: int) -> list[Plan]:
    return [replace(plan, seed=seed + index) for index, plan in enumerate(plans)]


LATE = [
    Plan(FUNK, DRAWN, new_tokens=11, prompt_frames=6, seed=7),
    Plan(FUNK, GUIDED, new_tokens=9, seed=8),
]
"""A job that comes when another, which is ``COMPANY``, has already computed: its rows are 6, 7, 8 and 9."""


@pytest.mark.parametrize("limits", [UNLIMITED, Limits(5, ALL_BYTES), Limits(None, 500), Limits(1, ALL_BYTES)], ids=str)
def test_jobs_that_come_while_others_are_in_the_middle_get_what_they_get_alone(limits: Limits) -> None:
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
    batch = Batch(decoder, Limits(3, ALL_BYTES))
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


def make_queue() -> list[Plan]:
    """Make samples of one row and of two, each of a length of its own."""
    kinds: list[tuple[TextStates | None, int]] = [
        (ROCK, 12), (None, 9), (JAZZ, 10), (None, 7), (None, 16), (ROCK, 8), (JAZZ, 14), (None, 5), (ROCK, 11),
    ]  # fmt: skip
    return [Plan(text, DRAWN, new_tokens=length, seed=length) for text, length in kinds]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(4, ALL_BYTES),
        Limits(3, ALL_BYTES),
        Limits(1, ALL_BYTES),
        Limits(None, 460),
        Limits(None, 330),
        Limits(None, 1),
        Limits(4, 430),
        UNLIMITED,
    ],
    ids=str,
)
@pytest.mark.parametrize("joint", [True, False], ids=["one job", "three jobs"])
def test_samples_wait_for_room_in_their_order_and_no_longer(limits: Limits, joint: bool) -> None:
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
            (limits.rows_most is None or rows <= limits.rows_most) and taken <= limits.cache_bytes_most
        )

    for known, entered, rows in seen:
        inside = {sample_of(tracks, row) for row in rows}
        assert len(rows) == sum(sizes[sample][0] for sample in inside)
        assert fit(inside)
        following = sample_of(tracks, entered)
        assert following >= known or not fit(inside | {following})


def test_one_sample_is_let_in_whatever_the_limits() -> None:
    decoder = FakeDecoder()
    with Jobs(decoder, Limits(1, 1)) as jobs:
        jobs.start("first", [PLANS["guided"], PLANS["clip and text"]])
    assert jobs.errors == {}
    assert decoder.rows_most == 2


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
    with Jobs(decoder, Limits(3, ALL_BYTES)) as jobs:
        jobs.start("first", [PLANS["guided"]])
    assert jobs.errors == {"stopped": error}
    assert len(decoder.recall("admit")) == 3
    assert decoder.recall("step")[2] == (0, 2, 1, 2, 2, 0)  # the small one has room from the next step on


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
    with Jobs(decoder, Limits(2, ALL_BYTES)) as jobs:
        jobs.start("broken", LATE, stop)
    assert jobs.errors.keys() == {"broken"}
    assert len(decoder.recall("admit")) == 2 + 3


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
    with Jobs(decoder, Limits(6, ALL_BYTES)) as jobs:
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


def test_what_is_to_be_kept_is_asked_for_in_the_jobs_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "KEEP_EVERY_S", 0.001)
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
