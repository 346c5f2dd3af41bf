"""What the batch's tests generate: tracks as they are planned, in one job or in jobs with threads of their own."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from shared.errors import JobStoppedError
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import CONFIG, FakeDecoder, compute
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.decoding.delay import TO_GENERATE, build_pattern, remove_delays
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms
from worker.engines.musicgen.decoding.sampling import choose_tokens
from worker.engines.musicgen.decoding.scheduler import BatchLimits, BatchScheduler
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.request import Sampling, Tokens

GREEDY = Sampling(do_sample=False, guidance_scale=1.0, temperature=1.0, top_k=0, top_p=1.0)
GUIDED = replace(GREEDY, guidance_scale=3.0)
DRAWN = Sampling(do_sample=True, guidance_scale=2.5, temperature=1.3, top_k=25, top_p=0.9)
ROCK = TextStates(np.full((3, 8), 1, dtype=np.float32))
JAZZ = TextStates(np.full((5, 8), 2, dtype=np.float32))
FUNK = TextStates(np.full((4, 8), 3, dtype=np.float32))

ALL_BYTES = 10**9
UNLIMITED = BatchLimits(None, ALL_BYTES)


def ignore() -> None:
    """Take no notice."""


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
        self.pattern = build_pattern(prompt, self.new_tokens, CONFIG)

    def make(self, resumed: Tokens | None = None) -> TokenSequence:
        return TokenSequence(self.pattern, self.text, self.sampling, self.seed, resumed)

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


def reseed(plans: Sequence[Plan], seed: int) -> list[Plan]:
    return [replace(plan, seed=seed + index) for index, plan in enumerate(plans)]


LATE = [
    Plan(FUNK, DRAWN, new_tokens=11, prompt_frames=6, seed=7),
    Plan(FUNK, GUIDED, new_tokens=9, seed=8),
]
"""A job that comes when another, which is ``COMPANY``, has already computed: its rows are 6, 7, 8 and 9."""


def sample_of(tracks: Sequence[TokenSequence], row: int) -> int:
    """Find the sample that has a row, of samples that entered one after the other and were the first to."""
    return int(np.searchsorted(np.cumsum([len(track.texts) for track in tracks]), row, side="right"))


def generate(
    decoder: FakeDecoder, tracks: Sequence[TokenSequence], tell: Callable[[], None], limits: BatchLimits = UNLIMITED
) -> None:
    """Generate for one job."""
    batch = BatchScheduler(decoder, limits)
    try:
        batch.generate(tracks, tell, ignore, ignore)
    finally:
        assert decoder.rows == {}
        for thread in decoder.threads:
            thread.join()


def run(plans: Sequence[Plan], decoder: FakeDecoder | None = None) -> FakeDecoder:
    """Generate, and compare each track with what it is alone and without the loop."""
    tracks = [plan.make() for plan in plans]
    decoder = decoder or FakeDecoder()
    generate(decoder, tracks, ignore)
    for track, plan in zip(tracks, plans, strict=True):
        assert track.finished
        np.testing.assert_array_equal(track.tokens, plan.expect())
        codes = remove_delays(track.tokens, CONFIG)
        assert ((codes >= 0) & (codes < CONFIG.vocabulary)).all()
    return decoder


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

    def __init__(self, decoder: FakeDecoder, limits: BatchLimits = UNLIMITED) -> None:
        self.batch = BatchScheduler(decoder, limits)
        self.errors: dict[str, BaseException] = {}
        self.tracks: dict[str, list[TokenSequence]] = {}
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
