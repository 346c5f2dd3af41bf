"""Planned sequences for the tests of the scheduler, and functions that generate them in one job or in several jobs."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import numpy as np

from shared.errors import JobStoppedError
from shared.texts import text
from tests.support.waiting import DEADLINE_S
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import CONFIG, FakeDecoder, compute_logits
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.decoding.delay import TO_GENERATE, build_pattern, remove_delays
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms
from worker.engines.musicgen.decoding.sampling import choose_tokens
from worker.engines.musicgen.decoding.scheduler import BatchEvent, BatchLimits, BatchScheduler, BatchState
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.request import Sampling, Tokens

GREEDY = Sampling(do_sample=False, guidance_scale=1.0, temperature=1.0, top_k=0, top_p=1.0)
GUIDED = replace(GREEDY, guidance_scale=3.0)
SAMPLED = Sampling(do_sample=True, guidance_scale=2.5, temperature=1.3, top_k=25, top_p=0.9)
ROCK = TextStates(np.full((3, 8), 1, dtype=np.float32))
JAZZ = TextStates(np.full((5, 8), 2, dtype=np.float32))
FUNK = TextStates(np.full((4, 8), 3, dtype=np.float32))

ALL_BYTES = 10**9
UNLIMITED = BatchLimits(None, ALL_BYTES)
EMPTY = BatchState(requests=0, waiting=0, active=0, slots=0)


def ignore() -> None:
    """Do nothing."""


def make_stop() -> JobStoppedError:
    """Return the error that stops a job."""
    return JobStoppedError(text("cancelled"))


@dataclass
class Plan:
    """The inputs of a sequence, from which the same sequence can be built several times."""

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

    def build(self, resumed: Tokens | None = None) -> TokenSequence:
        return TokenSequence(self.pattern, self.text, self.sampling, self.seed, resumed)

    def compute_expected(self) -> Tokens:
        """Generate the tokens without the scheduler: position by position, from the tokens at all earlier positions."""
        tokens = self.pattern.copy()
        for position in range(1 + self.prompt_frames, tokens.shape[1]):
            logits = compute_logits(self.text, tokens[:, :position])
            if self.text is not None and self.sampling.guidance_scale > 1:
                without = compute_logits(None, tokens[:, :position])
                logits = without + (logits - without) * np.float32(self.sampling.guidance_scale)
            uniforms = draw_uniforms(self.seed, position, *logits.shape)
            chosen = choose_tokens(logits, self.sampling, uniforms)
            tokens[:, position] = np.where(tokens[:, position] == TO_GENERATE, chosen, tokens[:, position])
        return tokens


PLANS = {
    "unguided": Plan(ROCK, GREEDY),
    "guided": Plan(ROCK, GUIDED),
    "unconditional": Plan(None, GUIDED),
    "sampled": Plan(ROCK, SAMPLED),
    "sampled unconditional": Plan(None, SAMPLED),
    "clip": Plan(None, SAMPLED, prompt_frames=9),
    "clip and text": Plan(JAZZ, SAMPLED, prompt_frames=9),
    "undelayed": Plan(JAZZ, SAMPLED, new_tokens=3),
    "one token": Plan(JAZZ, GUIDED, new_tokens=1),
    "clip and one frame": Plan(JAZZ, SAMPLED, new_tokens=4, prompt_frames=6),
}
FIRST_JOB = [
    Plan(ROCK, SAMPLED, new_tokens=8, seed=1),
    Plan(None, SAMPLED, new_tokens=14, seed=2),
    Plan(JAZZ, GREEDY, new_tokens=6, prompt_frames=7),
    Plan(JAZZ, SAMPLED, new_tokens=11, prompt_frames=3, seed=1),
]
"""A job with six slots. If the job is admitted first, the slots are 0 to 5."""
LATE_JOB = [
    Plan(FUNK, SAMPLED, new_tokens=11, prompt_frames=6, seed=7),
    Plan(FUNK, GUIDED, new_tokens=9, seed=8),
]
"""A job with four slots. If the job starts while ``FIRST_JOB`` is decoded, the slots are 6, 7, 8 and 9."""


def reseed(plans: Sequence[Plan], seed: int) -> list[Plan]:
    """Return the plans with other seeds: ``seed``, ``seed + 1`` and so on."""
    return [replace(plan, seed=seed + index) for index, plan in enumerate(plans)]


def find_sequence(sequences: Sequence[TokenSequence], slot: int) -> int:
    """Return the index of the sequence that has a slot.

    The given sequences must have been admitted in their order, and before all other sequences.
    """
    return int(np.searchsorted(np.cumsum([len(sequence.slot_texts) for sequence in sequences]), slot, side="right"))


def generate(
    decoder: FakeDecoder,
    sequences: Sequence[TokenSequence],
    on_step: Callable[[], None],
    limits: BatchLimits = UNLIMITED,
) -> None:
    """Generate the sequences of one job."""
    scheduler = BatchScheduler(decoder, limits)
    try:
        scheduler.generate(sequences, on_step, ignore, ignore)
    finally:
        assert decoder.slots == {}
        for thread in decoder.threads:
            thread.join()


def check_generation(plans: Sequence[Plan], decoder: FakeDecoder | None = None) -> FakeDecoder:
    """Generate all plans in one batch, and compare the tokens of each sequence with ``Plan.compute_expected``."""
    sequences = [plan.build() for plan in plans]
    decoder = decoder or FakeDecoder()
    generate(decoder, sequences, ignore)
    for sequence, plan in zip(sequences, plans, strict=True):
        assert sequence.finished
        np.testing.assert_array_equal(sequence.tokens, plan.compute_expected())
        codes = remove_delays(sequence.tokens, CONFIG)
        assert ((codes >= 0) & (codes < CONFIG.vocabulary)).all()
    return decoder


class Jobs:
    """A context manager that runs jobs in a thread each, and waits for all jobs at the end of the block.

    Then the context manager checks that each job without an error has the tokens that it would have without other jobs,
    that all slots are free, and that no decoding thread runs.
    """

    def __init__(self, decoder: FakeDecoder, limits: BatchLimits = UNLIMITED) -> None:
        self.scheduler = BatchScheduler(decoder, limits, self._observe)
        self.events: list[tuple[BatchEvent, BatchState]] = []
        self.errors: dict[str, BaseException] = {}
        self.sequences: dict[str, list[TokenSequence]] = {}
        self._decoder = decoder
        self._plans: dict[str, Sequence[Plan]] = {}
        self._queued = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._other_threads = {*threading.enumerate()}
        self._aborted = threading.Event()

    @property
    def state(self) -> BatchState:
        """The state of the scheduler at its last event."""
        return self.events[-1][1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._aborted.set()
        self.join()
        if error is None:
            self.check()

    def start(
        self,
        name: str,
        plans: Sequence[Plan],
        on_step: Callable[[], None] = ignore,
        on_compile: Callable[[], None] = ignore,
        on_tokens: Callable[[], None] = ignore,
    ) -> None:
        """Start a job, and return when the scheduler has queued the job."""
        sequences = [plan.build() for plan in plans]
        self._plans[name], self.sequences[name] = plans, sequences

        def check_and_call() -> None:
            assert threading.current_thread().name == "decode"
            self._threads.append(threading.current_thread())
            if self._aborted.is_set():
                raise make_stop()
            on_step()

        def work() -> None:
            try:
                self.scheduler.generate(sequences, check_and_call, on_compile, on_tokens)
            except BaseException as error:  # noqa: BLE001 - each test checks the errors
                self.errors[name] = error

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        assert self._queued.acquire(timeout=DEADLINE_S)

    def join(self) -> None:
        """Wait until each job and the decoding thread have ended."""
        while running := [thread for thread in {*self._threads, *self._decoder.threads} if thread.is_alive()]:
            running[0].join(DEADLINE_S)
            assert not running[0].is_alive(), f"{running[0].name} has no answer"

    def check(self) -> None:
        """Check that jobs without error have the expected tokens, all slots are free, and no decoding thread runs."""
        for name in self.sequences.keys() - self.errors.keys():
            for sequence, plan in zip(self.sequences[name], self._plans[name], strict=True):
                np.testing.assert_array_equal(sequence.tokens, plan.compute_expected(), name)
        assert self._decoder.slots == {}
        assert self.events[-1] == (BatchEvent.IDLE, EMPTY)
        assert "decode" not in {thread.name for thread in {*threading.enumerate()} - self._other_threads}

    def _observe(self, event: BatchEvent, state: BatchState) -> None:
        self.events.append((event, state))
        if event is BatchEvent.QUEUED:
            self._queued.release()
