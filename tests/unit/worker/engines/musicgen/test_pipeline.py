"""The service's own MusicGen, on each of its engines, against transformers on PyTorch, case by case."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailedError, JobStoppedError
from tests.references.musicgen_cases import CASES, MONO, Case, Model
from tests.support.waiting import DEADLINE_S, wait_until
from tests.unit.worker.engines.musicgen.conftest import Compose, ComposeOn
from worker.engines.musicgen.backends.registry import Engine
from worker.engines.musicgen.decoding.decoder import Decoder, TextStates
from worker.engines.musicgen.decoding.scheduler import BatchLimits, BatchScheduler
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import Codes, GenerationRequest, SampleRequest, Sampling, Tokens

TOLERANCE = 1e-4
NAMED = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def ignore_report(*, stage: str, done: int, total: int, unit: str) -> None:
    """For runs that nobody follows."""


def ignore_tokens(tokens: Sequence[Tokens]) -> None:
    """For runs that nobody resumes."""


def differ(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def encode_texts(composer: MusicgenPipeline, case: Case, reference: dict[str, Any]) -> list[TextStates | None]:
    """Encode the conditional rows' texts from the reference's token ids; unconditional rows have none."""
    texts: list[TextStates | None] = [None] * len(reference["logits"])
    if case.prompts[0] is not None:
        for row, (ids, mask) in enumerate(zip(reference["input_ids"], reference["attention_mask"], strict=True)):
            texts[row] = composer._parts.text.encode(ids[mask == 1])
    return texts


@contextmanager
def seat(decoder: Decoder, texts: Sequence[TextStates | None], length: int) -> Iterator[list[int]]:
    rows = [decoder.admit(text, length) for text in texts]
    yield rows
    for row in rows:
        decoder.drop(row)


@pytest.mark.parametrize("model", {case.model: None for case in CASES}, ids=lambda model: f"seed-{model.seed}")
def test_the_models_are_those_that_the_references_were_made_with(
    model: Model, hash_model: Callable[[Model], str]
) -> None:
    references = [case.read()["weights_sha256"] for case in CASES if case.model == model]
    assert {str(reference) for reference in references} == {hash_model(model)}


@each_case
def test_text_is_tokenized_and_encoded_alike(case: Case, load_on: ComposeOn) -> None:
    composer, reference = load_on(Engine.MINDSPORE, case.model), case.read()
    if case.prompts[0] is None:
        assert not reference["projected"].any()
        return
    for row, (prompt, ids) in enumerate(zip(case.prompts, reference["input_ids"], strict=True)):
        wanted = ids[reference["attention_mask"][row] == 1]
        assert prompt is not None
        np.testing.assert_array_equal(composer._tokenize(prompt), wanted)
        states = composer._parts.text.encode(wanted).states
        assert differ(states, reference["projected"][row][: len(wanted)]) < TOLERANCE


@each_case
@pytest.mark.parametrize("chunked", [False, True], ids=["stepwise", "chunked"])
def test_logits_agree_whether_read_step_by_step_or_in_chunks(case: Case, chunked: bool, load_native: Compose) -> None:
    composer, reference = load_native(case.model), case.read()
    decoder = composer._parts.decoder
    texts = encode_texts(composer, case, reference)
    tokens = reference["tokens"].astype(np.int32)[np.arange(len(texts)) % len(case.prompts)]
    last = int(max(reference["positions"]))
    begin = last if chunked else 0
    compared = 0
    with seat(decoder, texts, tokens.shape[2]) as rows:
        for row, known in zip(rows, tokens, strict=True):
            for start in range(0, begin, decoder.chunk):
                decoder.feed(row, known[:, start : min(start + decoder.chunk, begin)], start)
        for position in range(begin, last + 1):
            logits = decoder.step(rows, tokens[:, :, position], np.full(len(rows), position, dtype=np.int32))
            for index in np.flatnonzero(reference["positions"] == position):
                assert differ(logits, reference["logits"][:, :, index]) < TOLERANCE
                compared += 1
    assert compared == (1 if chunked else len(reference["positions"]))


@each_case
def test_codes_are_equal_and_audio_agrees(case: Case, load_native: Compose) -> None:
    reference = case.read()
    pieces = load_native(case.model).compose(case.order(), ignore_report, ignore_tokens, None)
    padding = reference.get("padding_samples", np.zeros(len(pieces), dtype=np.int32))
    hop = load_native(case.model).config.codec.hop
    for piece, codes, audio, silence in zip(pieces, reference["codes"], reference["audio"], padding, strict=True):
        np.testing.assert_array_equal(piece.codes, codes[:, silence // hop :])
        assert differ(piece.audio, audio[:, silence:]) < TOLERANCE
        assert piece.codes.dtype == np.int16
        assert piece.audio.dtype == np.float32


@pytest.mark.parametrize("name", ["text_four", "clips_two", "stereo_clips_two", "sampled_all"])
def test_an_interrupted_order_goes_on_to_the_same_codes(name: str, load_native: Compose) -> None:
    case = NAMED[name]
    composer = load_native(case.model)
    kept: list[Tokens] = []

    def keep(tokens: Sequence[Tokens]) -> None:
        kept[:] = [row.copy() for row in tokens]

    whole = composer.compose(case.order(), ignore_report, keep, None)
    length = kept[0].shape[1]

    def stop_halfway(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "generating" and unit and done == total // 2:
            known = length - total + done
            wait_until(lambda: {row.shape[1] for row in kept} == {known}, "the tokens so far to be kept")
            raise JobStoppedError("enough")

    with pytest.raises(JobStoppedError):
        composer.compose(case.order(), stop_halfway, keep, None)
    seen: list[int] = []

    def follow(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "generating" and total and unit:
            seen.append(done)

    resumed = composer.compose(case.order(), follow, ignore_tokens, kept)
    assert seen[0] == case.new_tokens // 2
    for ours, undisturbed in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(ours.codes, undisturbed.codes)


def test_a_sample_is_the_same_alone_and_in_a_batch_of_four(load_native: Compose) -> None:
    composer = load_native(MONO)
    sampling = Sampling(do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=50, top_p=0.95)
    samples = [
        SampleRequest(prompt, None, seed) for prompt, seed in [("rock", 7), ("a calm waltz", 8), ("rock", 9), ("x", 7)]
    ]
    together = composer.compose(GenerationRequest(samples, 150, sampling), ignore_report, ignore_tokens, None)
    for sample, piece in zip(samples, together, strict=True):
        [alone] = composer.compose(GenerationRequest([sample], 150, sampling), ignore_report, ignore_tokens, None)
        np.testing.assert_array_equal(alone.codes, piece.codes)
    assert len({piece.codes.tobytes() for piece in together}) == 4


def test_more_samples_than_fit_the_memory_are_made_one_after_the_other(
    load_native: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    composer = load_native(MONO)
    decoder = composer._parts.decoder
    sampling = Sampling(do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=0, top_p=1.0)
    order = GenerationRequest([SampleRequest("rock", None, seed) for seed in range(3)], 20, sampling)
    whole = composer.compose(order, ignore_report, ignore_tokens, None)
    step, counts = decoder.step, set[int]()

    def watch(rows: Sequence[int], *read: Any) -> NDArray[np.float32]:
        counts.add(len(rows))
        return step(rows, *read)

    monkeypatch.setattr(decoder, "step", watch)
    monkeypatch.setattr(decoder, "announce", decoder.announce)
    monkeypatch.setattr(composer, "_batch", BatchScheduler(decoder, BatchLimits(max_slots=16, max_cache_bytes=1)))
    seen: list[tuple[int, int]] = []

    def follow(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "generating" and unit:
            seen.append((done, total))

    pieces = composer.compose(order, follow, ignore_tokens, None)
    assert counts == {2}
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)
    for ours, theirs in zip(pieces, whole, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_music_longer_than_the_models_positions_is_refused(load_native: Compose) -> None:
    case = NAMED["text_guided"]
    order = GenerationRequest(case.order().samples, 512, case.order().sampling)
    with pytest.raises(JobFailedError, match=r"512 positions; 1 go .* leaves 511 .* 512 were asked"):
        load_native(MONO).compose(order, ignore_report, ignore_tokens, None)


def test_each_step_can_be_stopped(load_native: Compose) -> None:
    composer = load_native(MONO)
    order = NAMED["text_guided"].order()
    for stop_at in (0, 1, 17):
        steps = 0

        def stop(*, stage: str, done: int, total: int, unit: str) -> None:
            nonlocal steps
            if stage == "generating" and total and unit:
                steps = done
                if done >= stop_at:  # noqa: B023 - called in this turn only
                    raise JobStoppedError("stop")

        with pytest.raises(JobStoppedError):
            composer.compose(order, stop, ignore_tokens, None)
        assert steps == stop_at


class HeldCodec:
    """A codec that decodes when it is let go."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec
        self._let_go = threading.Event()
        self.entered = 0

    def let_go(self) -> None:
        self._let_go.set()

    def decode(self, codes: Codes, tell: Callable[[], None]) -> Any:
        self.entered += 1
        assert self._let_go.wait(DEADLINE_S)
        return self._codec.decode(codes, tell)


def test_samples_are_decoded_one_after_another_and_those_that_wait_can_be_stopped(
    load_native: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    composer, order = load_native(MONO), NAMED["text_guided"].order()
    held: Any = HeldCodec(composer._parts.codec)
    monkeypatch.setattr(composer, "_parts", replace(composer._parts, codec=held))
    turns = iter(range(3))

    def stop_while_it_waits(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "decoding" and done < total and unit and next(turns) == 2:
            raise JobStoppedError("enough")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(composer.compose, order, ignore_report, ignore_tokens, None)
        try:
            wait_until(lambda: held.entered, "the first to be decoded")
            with pytest.raises(JobStoppedError):
                composer.compose(order, stop_while_it_waits, ignore_tokens, None)
            assert held.entered == 1
        finally:
            held.let_go()
        assert len(first.result(DEADLINE_S)) == 1
