"""The batch gives each sample its own music, whatever runs beside it, comes, leaves, breaks or interrupted it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailedError, JobStoppedError
from tests.references.musicgen_cases import CASES, TINY, Case
from tests.unit.engines.musicgen.shapes import shape_decoder
from tests.waiting import wait_until
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

UNLIMITED = Limits(None, 10**9)

Logits = NDArray[np.float32]
Call = tuple[str | int, ...]


def compute(text: TextStates | None, tokens: Tokens) -> Logits:
    """Make logits of a text and all the tokens so far."""
    random = np.random.default_rng([0 if text is None else int(text.states[0, 0]), *tokens.T.ravel()])
    return (2 * random.standard_normal((CONFIG.codebooks, CONFIG.vocabulary))).astype(np.float32)


class FakeDecoder:
    """Rows that remember what they read, and check that it comes in order; what they answer is overwritten."""

    def __init__(
        self,
        chunk: int = 4,
        damage: Callable[[int, Logits], None] = lambda _, __: None,
        hook: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.chunk = chunk
        self.announce: Announce = ignore_compiling
        self.calls: list[Call] = []
        self.rows: dict[int, TextStates | None] = {}
        self.rows_most = 0
        self._damage = damage
        self._hook = hook
        self._lengths: dict[int, int] = {}
        self._read: dict[int, Tokens] = {}
        self._numbers = count()
        self._logits = np.zeros((0, CONFIG.codebooks, CONFIG.vocabulary), dtype=np.float32)

    def count_bytes(self, length: int) -> int:
        return 10 * length

    def admit(self, text: TextStates | None, length: int) -> int:
        row = next(self._numbers)
        self.calls.append(("admit", row))
        self.rows[row] = text
        self.rows_most = max(self.rows_most, len(self.rows))
        self._lengths[row] = length
        self._read[row] = np.zeros((CONFIG.codebooks, 0), dtype=np.int32)
        return row

    def drop(self, row: int) -> None:
        self.calls.append(("drop", row))
        del self.rows[row]

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        assert 1 <= tokens.shape[1] <= self.chunk
        self.calls.append(("feed", row, position, tokens.shape[1]))
        self._take(row, tokens, position)

    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> Logits:
        assert tokens.shape == (len(rows), CONFIG.codebooks)
        assert positions.shape == (len(rows),)
        assert tokens.dtype == positions.dtype == np.int32
        assert len(set(rows)) == len(rows) > 0
        self.calls.append(("step", *(place for pair in zip(rows, positions.tolist(), strict=True) for place in pair)))
        self._hook(len(self.recall("step")))
        self._logits[:] = np.nan  # what it gave before is valid no more
        for row, read, position in zip(rows, tokens, positions, strict=True):
            self._take(row, read[:, None], position)
        self._logits = np.stack([compute(self.rows[row], self._read[row]) for row in rows])
        self._damage(len(self.recall("step")), self._logits)
        return self._logits

    def recall(self, kind: str) -> list[Call]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def list_positions(self) -> list[list[Any]]:
        """List the positions of each step's rows."""
        return [list(step[1::2]) for step in self.recall("step")]

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
        batch.generate(tracks, tell, lambda: None, lambda: None)
    finally:
        assert decoder.rows == {}


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
    generate(decoder, tracks, lambda: None)
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
        generate(decoder, [track], lambda: None)
        np.testing.assert_array_equal(track.tokens, expected)
        assert len(decoder.recall("step")) == expected.shape[1] - max(known, first)


def test_tracks_resumed_at_different_places_keep_company() -> None:
    expected = [plan.expect() for plan in COMPANY]
    tracks = [
        plan.make(tokens[:, :known]) for plan, tokens, known in zip(COMPANY, expected, (9, 3, 0, 12), strict=True)
    ]
    generate(FakeDecoder(3), tracks, lambda: None)
    for track, tokens in zip(tracks, expected, strict=True):
        np.testing.assert_array_equal(track.tokens, tokens)


def test_a_track_keeps_neither_the_pattern_nor_what_it_resumes() -> None:
    plan = PLANS["drawn"]
    before = plan.pattern.copy()
    resumed = plan.expect()[:, :5]
    kept = resumed.copy()
    track = plan.make(resumed)
    generate(FakeDecoder(), [track], lambda: None)
    track.tokens[:] = 0
    np.testing.assert_array_equal(plan.pattern, before)
    np.testing.assert_array_equal(resumed, kept)


@pytest.mark.parametrize("new_tokens", [1, 2, 3])
def test_where_the_delays_take_all_the_tokens_nothing_is_generated(new_tokens: int) -> None:
    plan = Plan(ROCK, DRAWN, new_tokens=new_tokens, prompt_frames=9)
    track = plan.make()
    assert track.finished
    decoder = FakeDecoder()
    generate(decoder, [track], lambda: None)
    assert decoder.recall("step") == []
    np.testing.assert_array_equal(track.tokens, plan.pattern)


def test_tells_before_each_turn_in_which_each_sample_reads_a_chunk_or_takes_a_step() -> None:
    tracks = [plan.make() for plan in COMPANY]
    decoder = FakeDecoder()
    generate(decoder, tracks, lambda: decoder.calls.append(("tell",)))
    turn: list[str] = []
    for kind in [call[0] for call in decoder.calls if call[0] in {"tell", "feed", "step"}]:
        turn = [] if kind == "tell" else [*turn, kind]
        assert turn.count("step") <= 1
        assert turn.count("feed") <= len(COMPANY)


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
    def damage(step: int, logits: Logits) -> None:
        if step == 3:
            logits[rows, 2, 7] = value

    plan = Plan(ROCK, sampling)
    second = Plan(JAZZ, replace(sampling, guidance_scale=1.0))
    plans = [plan] if len(plan.make().texts) == 2 else [plan, second]
    with pytest.raises(JobFailedError) as caught:
        generate(FakeDecoder(damage=damage), [plan.make() for plan in plans], lambda: None)
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


class Jobs:
    """Jobs in threads of their own, each of which must make what it makes alone."""

    def __init__(self, decoder: FakeDecoder, limits: Limits = UNLIMITED) -> None:
        self.batch = Batch(decoder, limits)
        self.errors: dict[str, BaseException] = {}
        self.threads: list[threading.Thread] = []

    def start(self, name: str, plans: Sequence[Plan], tell: Callable[[], None] = lambda: None) -> None:
        def work() -> None:
            tracks = [plan.make() for plan in plans]
            try:
                self.batch.generate(tracks, tell, lambda: None, lambda: None)
                for track, plan in zip(tracks, plans, strict=True):
                    np.testing.assert_array_equal(track.tokens, plan.expect())
            except BaseException as error:  # noqa: BLE001 - looked at below
                self.errors[name] = error

        self.threads.append(threading.Thread(target=work, name=name, daemon=True))
        self.threads[-1].start()

    def start_and_wait(self, name: str, plans: Sequence[Plan], tell: Callable[[], None] = lambda: None) -> None:
        """Start a job, and go on when its samples wait for room; for a hook in the decoder."""
        before = len(self.batch._parties)
        self.start(name, plans, tell)
        wait_until(lambda: len(self.batch._parties) > before, f"{name} to wait")

    def end(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


def test_jobs_that_come_while_others_run_change_nothing() -> None:
    coming = {3: "second", 5: "third", 6: "fourth"}

    def let_in(step: int) -> None:
        if step in coming:
            jobs.start_and_wait(coming[step], COMPANY[::-1] if step % 2 else COMPANY[:2])

    decoder = FakeDecoder(hook=let_in)
    jobs = Jobs(decoder)
    jobs.start("first", COMPANY)
    jobs.threads[0].join(60)
    jobs.end()
    assert jobs.errors == {}
    assert decoder.rows == {}
    assert len(decoder.recall("admit")) == 6 + 6 + 6 + 3
    assert decoder.rows_most > 6


@pytest.mark.parametrize("way", ["stopped", "not a number", "refused"])
def test_what_becomes_of_a_job_is_its_own(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    bad_rows: list[int] = []

    def stop() -> None:
        told.append(0)
        if way == "stopped" and len(told) > 4:
            raise JobStoppedError("enough")

    def damage(step: int, logits: Logits) -> None:
        bad = [row in bad_rows for row in decoder.recall("step")[-1][::2]]
        if way == "not a number" and step > 4:
            logits[bad] = np.nan

    def let_in(step: int) -> None:
        if step == 1:
            jobs.start_and_wait("bad", [replace(PLANS["clip and text"], seed=99)], stop)

    decoder = FakeDecoder(damage=damage, hook=let_in)
    admit = decoder.admit

    def note(text: TextStates | None, length: int) -> int:
        if decoder.recall("step"):  # only the newcomer is admitted so late
            if way == "refused":
                raise MemoryError("no room for a row")
            bad_rows.append(admit(text, length))
            return bad_rows[-1]
        return admit(text, length)

    monkeypatch.setattr(decoder, "admit", note)
    jobs = Jobs(decoder)
    jobs.start("good", COMPANY)
    jobs.threads[0].join(60)
    jobs.end()
    wanted = {"stopped": JobStoppedError, "not a number": JobFailedError, "refused": MemoryError}[way]
    assert {name: type(error) for name, error in jobs.errors.items()} == {"bad": wanted}
    assert decoder.rows == {}


def test_what_breaks_a_step_is_told_to_all_and_the_next_job_works() -> None:
    def fall_over(step: int) -> None:
        if step == 2:
            jobs.start_and_wait("second", COMPANY[:1])
        if step == 4:
            raise RuntimeError("the network is broken")

    decoder = FakeDecoder(hook=fall_over)
    jobs = Jobs(decoder)
    jobs.start("first", COMPANY)
    jobs.threads[0].join(60)
    jobs.end()
    assert {name: str(error) for name, error in jobs.errors.items()} == dict.fromkeys(
        ("first", "second"), "the network is broken"
    )
    assert decoder.rows == {}
    jobs.errors.clear()
    jobs.start("third", COMPANY)
    jobs.end()
    assert jobs.errors == {}


@pytest.mark.parametrize(
    ("limits", "most"), [(Limits(4, 10**9), 4), (Limits(None, 460), 4), (Limits(1, 10**9), 2), (Limits(None, 1), 2)]
)
def test_samples_wait_for_room_in_their_order(limits: Limits, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = Plan(None, DRAWN, new_tokens=9), Plan(ROCK, DRAWN, new_tokens=12)
    plans = [replace(plan, seed=seed) for seed, plan in enumerate([large, small, large, small, small, large])]
    tracks = [plan.make() for plan in plans]
    decoder = FakeDecoder()
    order: list[int] = []
    admit = decoder.admit

    def note(text: TextStates | None, length: int) -> int:
        order.append(length)
        return admit(text, length)

    monkeypatch.setattr(decoder, "admit", note)
    generate(decoder, tracks, lambda: None, limits)
    for track, plan in zip(tracks, plans, strict=True):
        np.testing.assert_array_equal(track.tokens, plan.expect())
    assert decoder.rows_most <= most
    assert order == [track.length for track in tracks for _ in track.texts]


def test_a_job_that_is_stopped_while_it_waits_for_room_never_enters() -> None:
    def stop() -> None:
        raise JobStoppedError("enough")

    def let_in(step: int) -> None:
        if step == 2:
            jobs.start_and_wait("waiting", [PLANS["drawn"]], stop)

    decoder = FakeDecoder(hook=let_in)
    jobs = Jobs(decoder, Limits(1, 10**9))
    jobs.start("first", [PLANS["guided"]])
    jobs.threads[0].join(60)
    jobs.end()
    assert {name: type(error) for name, error in jobs.errors.items()} == {"waiting": JobStoppedError}
    assert len(decoder.recall("admit")) == 2


def test_what_is_to_be_kept_is_asked_for_in_the_jobs_own_thread_and_nothing_runs_on_afterwards() -> None:
    kept = threading.Event()
    threads: list[threading.Thread] = []

    def keep() -> None:
        threads.append(threading.current_thread())
        kept.set()

    decoder = FakeDecoder(hook=lambda step: assert_set(kept) if step == 2 else None)
    batch = Batch(decoder, UNLIMITED)
    batch.generate([PLANS["drawn"].make()], lambda: None, lambda: None, keep)
    assert set(threads) == {threading.current_thread()}
    wait_until(lambda: "decode" not in {thread.name for thread in threading.enumerate()}, "the decode thread's end")


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)
