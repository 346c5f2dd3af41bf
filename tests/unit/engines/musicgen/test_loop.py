"""The decode loop gives each sample its own music, whatever runs beside it and whatever interrupted it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailedError, JobStoppedError
from tests.references.musicgen_cases import CASES, TINY, Case
from tests.unit.engines.musicgen.shapes import shape_decoder
from worker.engines.musicgen.composer import Sampling, Tokens
from worker.engines.musicgen.decoder import IDLE, TextStates
from worker.engines.musicgen.delay import TO_GENERATE, lay_out, take_out
from worker.engines.musicgen.draws import draw_uniforms
from worker.engines.musicgen.loop import Track, count_rows, generate
from worker.engines.musicgen.sampling import choose_tokens

CONFIG = shape_decoder(replace(TINY, codebook_size=40))
GREEDY = Sampling(do_sample=False, guidance_scale=1.0, temperature=1.0, top_k=0, top_p=1.0)
GUIDED = replace(GREEDY, guidance_scale=3.0)
DRAWN = Sampling(do_sample=True, guidance_scale=2.5, temperature=1.3, top_k=25, top_p=0.9)
ROCK = TextStates(np.full((3, 8), 1, dtype=np.float32))
JAZZ = TextStates(np.full((5, 8), 2, dtype=np.float32))

Logits = NDArray[np.float32]
Call = tuple[str | int, ...]


def compute(text: TextStates | None, tokens: Tokens) -> Logits:
    """Make logits of a text and all the tokens so far."""
    random = np.random.default_rng([0 if text is None else int(text.states[0, 0]), *tokens.T.ravel()])
    return (2 * random.standard_normal((CONFIG.codebooks, CONFIG.vocabulary))).astype(np.float32)


class FakeDecoder:
    """Rows that remember what they read, and check that it comes in order; what they answer is overwritten."""

    def __init__(self, rows: int, chunk: int = 4, damage: Callable[[int, Logits], None] = lambda _, __: None) -> None:
        self.rows = rows
        self.chunk = chunk
        self.calls: list[Call] = []
        self._damage = damage
        self._texts: dict[int, TextStates | None] = {}
        self._read: dict[int, Tokens] = {}
        self._logits = np.full((rows, CONFIG.codebooks, CONFIG.vocabulary), np.nan, dtype=np.float32)

    def admit(self, row: int, text: TextStates | None) -> None:
        self.calls.append(("admit", row))
        self._texts[row] = text
        self._read[row] = np.zeros((CONFIG.codebooks, 0), dtype=np.int32)

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        assert 1 <= tokens.shape[1] <= self.chunk
        self.calls.append(("feed", row, position, tokens.shape[1]))
        self._take(row, tokens, position)

    def step(self, tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> Logits:
        assert tokens.shape == (self.rows, CONFIG.codebooks)
        assert positions.shape == (self.rows,)
        assert tokens.dtype == positions.dtype == np.int32
        self.calls.append(("step", *positions.tolist()))
        self._logits[:] = np.nan
        for row in np.flatnonzero(positions != IDLE):
            self._take(row, tokens[row][:, None], positions[row])
            self._logits[row] = compute(self._texts[row], self._read[row])
        self._damage(len(self.list("step")), self._logits)
        return self._logits

    def list(self, kind: str) -> list[Call]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def _take(self, row: int, tokens: Tokens, position: int) -> None:
        assert position == self._read[row].shape[1]
        assert ((tokens >= 0) & (tokens <= CONFIG.start)).all()
        self._read[row] = np.concatenate([self._read[row], tokens], axis=1)


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
    decoder = decoder or FakeDecoder(count_rows(tracks))
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
    rows = [count_rows([plan.make()]) for plan in COMPANY]
    assert rows == [2, 1, 1, 2]
    assert count_rows([plan.make() for plan in COMPANY]) == 6
    assert count_rows([]) == 0
    decoder = run([PLANS["unconditional"]])
    assert decoder.list("admit") == [(0,)]


def test_company_of_every_kind_and_length_changes_nothing() -> None:
    run(COMPANY)
    run(COMPANY[::-1])


def test_rows_that_are_done_or_spare_are_idle() -> None:
    decoder = run([Plan(None, DRAWN, new_tokens=7), Plan(ROCK, DRAWN, new_tokens=9)], FakeDecoder(5))
    steps = decoder.list("step")
    assert steps == [(position, position, position, IDLE, IDLE) for position in range(7)] + [
        (IDLE, position, position, IDLE, IDLE) for position in (7, 8)
    ]


@pytest.mark.parametrize("chunk", [1, 4, 5, 9, 10, 64])
def test_what_is_known_is_read_once_in_chunks(chunk: int) -> None:
    plan = PLANS["clip and text"]
    decoder = run([plan], FakeDecoder(2, chunk))
    known = 9  # with the start token they are ten; the first step reads the last
    for row in (0, 1):
        fed = [(position, count) for feed_row, position, count in decoder.list("feed") if feed_row == row]
        assert fed == [(start, min(chunk, known - start)) for start in range(0, known, chunk)]
    assert decoder.list("step") == [(position, position) for position in range(known, known + plan.new_tokens)]


@pytest.mark.parametrize("plan", COMPANY, ids=["drawn", "unconditional", "clip", "clip and text"])
def test_a_resumed_track_goes_on_as_if_nothing_had_happened(plan: Plan) -> None:
    expected = plan.expect()
    first = plan.make().known
    for known in range(expected.shape[1] + 1):
        track = plan.make(expected[:, :known])
        assert track.known == max(known, first)
        assert track.first == first
        decoder = FakeDecoder(2)
        generate(decoder, [track], lambda: None)
        np.testing.assert_array_equal(track.tokens, expected)
        assert len(decoder.list("step")) == expected.shape[1] - max(known, first)


def test_tracks_resumed_at_different_places_keep_company() -> None:
    expected = [plan.expect() for plan in COMPANY]
    tracks = [
        plan.make(tokens[:, :known]) for plan, tokens, known in zip(COMPANY, expected, (9, 3, 0, 12), strict=True)
    ]
    generate(FakeDecoder(8, chunk=3), tracks, lambda: None)
    for track, tokens in zip(tracks, expected, strict=True):
        np.testing.assert_array_equal(track.tokens, tokens)


def test_a_track_keeps_neither_the_pattern_nor_what_it_resumes() -> None:
    plan = PLANS["drawn"]
    before = plan.pattern.copy()
    resumed = plan.expect()[:, :5]
    kept = resumed.copy()
    track = plan.make(resumed)
    generate(FakeDecoder(2), [track], lambda: None)
    track.tokens[:] = 0
    np.testing.assert_array_equal(plan.pattern, before)
    np.testing.assert_array_equal(resumed, kept)


@pytest.mark.parametrize("new_tokens", [1, 2, 3])
def test_where_the_delays_take_all_the_tokens_nothing_is_generated(new_tokens: int) -> None:
    plan = Plan(ROCK, DRAWN, new_tokens=new_tokens, prompt_frames=9)
    track = plan.make()
    assert track.finished
    decoder = FakeDecoder(2)
    generate(decoder, [track], lambda: None)
    assert decoder.list("step") == []
    np.testing.assert_array_equal(track.tokens, plan.pattern)


def test_tells_before_each_chunk_and_each_step() -> None:
    tracks = [plan.make() for plan in COMPANY]
    decoder = FakeDecoder(6)
    generate(decoder, tracks, lambda: decoder.calls.append(("tell",)))
    kinds = [call[0] for call in decoder.calls]
    assert kinds.count("tell") == kinds.count("feed") + kinds.count("step")
    for before, kind in pairwise(kinds):
        assert kind not in {"feed", "step"} or before == "tell"


@pytest.mark.parametrize("told", range(8))
def test_is_stopped_by_what_it_tells_at_once(told: int) -> None:
    decoder = FakeDecoder(2)
    before: list[list[Call]] = []

    def tell() -> None:
        before.append(decoder.calls.copy())
        if len(before) > told:
            raise JobStoppedError("The job must stop: cancelled.")

    track = PLANS["clip and text"].make()
    with pytest.raises(JobStoppedError):
        generate(decoder, [track], tell)
    assert decoder.calls == before[-1]
    assert sum(call[0] in {"feed", "step"} for call in decoder.calls) == told
    assert track.known == track.first + len(decoder.list("step"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", [GREEDY, GUIDED, DRAWN], ids=["greedy", "guided", "drawn"])
@pytest.mark.parametrize("rows", [[0], [1], [0, 1]], ids=["one row", "the other", "both"])
def test_tells_of_logits_that_are_no_numbers(value: float, sampling: Sampling, rows: list[int]) -> None:
    def damage(step: int, logits: Logits) -> None:
        if step == 3:
            logits[rows, 2, 7] = value

    plan = Plan(ROCK, sampling)
    second = Plan(JAZZ, replace(sampling, guidance_scale=1.0))
    plans = [plan] if count_rows([plan.make()]) == 2 else [plan, second]
    with pytest.raises(JobFailedError) as caught:
        generate(FakeDecoder(2, damage=damage), [plan.make() for plan in plans], lambda: None)
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
            assert track.guided == case.guided
            if track.position == position and not track.finished:
                logits = arrays["logits"][:, :, place]
                track.extend(logits[index], logits[samples + index] if track.guided else None)
                np.testing.assert_array_equal(track.tokens[:, position + 1], tokens[:, position + 1])
                replayed += 1
    assert replayed or case.name == "clip_least"  # where nothing is generated
