"""The pipeline on MindSpore and on OpenVINO, compared with transformers on PyTorch in each reference case."""

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
from shared.texts import text
from tests.references.musicgen_cases import CASES, MONO, STEREO, Case, Clip, Model
from tests.support.waiting import DEADLINE_S, wait_until
from tests.unit.worker.engines.musicgen.conftest import Load, LoadOn
from tests.unit.worker.engines.musicgen.engine_harness import ignore_report, ignore_tokens
from worker.engines.musicgen.decoding.decoder import Decoder, TextStates
from worker.engines.musicgen.decoding.scheduler import BatchEvent, BatchLimits, BatchScheduler, BatchState
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import Codes, GeneratedSample, GenerationRequest, SampleRequest, Sampling, Tokens

TOLERANCE = 1e-4
CASES_BY_NAME = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def compute_error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Compute the largest difference, relative to the largest value of the reference."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def encode_texts(pipeline: MusicgenPipeline, case: Case, reference: dict[str, Any]) -> list[TextStates | None]:
    """Return, for each row of the batch of the reference, the encoded text, or ``None`` if the row is unconditional."""
    texts: list[TextStates | None] = [None] * len(reference["logits"])
    if case.prompts[0] is not None:
        for row, (ids, mask) in enumerate(zip(reference["input_ids"], reference["attention_mask"], strict=True)):
            texts[row] = pipeline.model.text.encode(ids[mask == 1])
    return texts


@contextmanager
def occupy_slots(decoder: Decoder, texts: Sequence[TextStates | None], length: int) -> Iterator[list[int]]:
    slots = [decoder.admit(each, length) for each in texts]
    yield slots
    for slot in slots:
        decoder.drop(slot)


@pytest.mark.parametrize("model", {case.model: None for case in CASES}, ids=lambda model: f"seed-{model.seed}")
def test_each_random_model_has_the_weights_of_its_references(model: Model, hash_model: Callable[[Model], str]) -> None:
    references = [case.read()["weights_sha256"] for case in CASES if case.model == model]
    assert {str(reference) for reference in references} == {hash_model(model)}


@each_case
def test_tokens_and_states_of_a_text_agree_with_transformers(case: Case, load_on: LoadOn) -> None:
    pipeline, reference = load_on("mindspore", case.model), case.read()
    if case.prompts[0] is None:
        assert not reference["projected"].any()
        return
    for row, (prompt, ids) in enumerate(zip(case.prompts, reference["input_ids"], strict=True)):
        expected = ids[reference["attention_mask"][row] == 1]
        assert prompt is not None
        np.testing.assert_array_equal(pipeline.tokenizer.encode(prompt), expected)
        states = pipeline.model.text.encode(expected).states
        assert compute_error(states, reference["projected"][row][: len(expected)]) < TOLERANCE


@each_case
@pytest.mark.parametrize("chunked", [False, True], ids=["in steps", "in chunks"])
def test_logits_agree_with_transformers_after_steps_and_after_chunks(case: Case, chunked: bool, load: Load) -> None:
    pipeline, reference = load(case.model), case.read()
    decoder = pipeline.model.decoder
    texts = encode_texts(pipeline, case, reference)
    tokens = reference["tokens"].astype(np.int32)[np.arange(len(texts)) % len(case.prompts)]
    last = int(max(reference["positions"]))
    first_step = last if chunked else 0
    compared = 0
    with occupy_slots(decoder, texts, tokens.shape[2]) as slots:
        for slot, known in zip(slots, tokens, strict=True):
            for start in range(0, first_step, decoder.max_chunk):
                decoder.feed(slot, known[:, start : min(start + decoder.max_chunk, first_step)], start)
        for position in range(first_step, last + 1):
            logits = decoder.step(slots, tokens[:, :, position], np.full(len(slots), position, dtype=np.int32))
            for index in np.flatnonzero(reference["positions"] == position):
                assert compute_error(logits, reference["logits"][:, :, index]) < TOLERANCE
                compared += 1
    assert compared == (1 if chunked else len(reference["positions"]))


@each_case
def test_codes_and_audio_agree_with_transformers(case: Case, load: Load) -> None:
    reference = case.read()
    samples = list(load(case.model).generate(case.make_request(), ignore_report, ignore_tokens, None))
    for sample, codes, audio in zip(samples, reference["codes"], reference["audio"], strict=True):
        np.testing.assert_array_equal(sample.codes, codes)
        assert compute_error(sample.audio, audio) < TOLERANCE
        assert sample.codes.dtype == np.int16
        assert sample.audio.dtype == np.float32


@pytest.mark.parametrize("name", ["text_four", "clips_two", "stereo_clips_two", "sampled_all"])
def test_an_interrupted_request_gives_the_same_codes_after_resuming(name: str, load: Load) -> None:
    case = CASES_BY_NAME[name]
    pipeline = load(case.model)
    stored: list[Tokens] = []

    def store(tokens: Sequence[Tokens]) -> None:
        stored[:] = [sample.copy() for sample in tokens]

    whole = list(pipeline.generate(case.make_request(), ignore_report, store, None))
    length = stored[0].shape[1]

    def stop_halfway(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "generating" and unit and done == total // 2:
            known = length - total + done
            wait_until(lambda: {sample.shape[1] for sample in stored} == {known}, "the tokens so far to be stored")
            raise JobStoppedError(text("cancelled"))

    with pytest.raises(JobStoppedError):
        list(pipeline.generate(case.make_request(), stop_halfway, store, None))
    reported: list[int] = []

    def record_steps(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "generating" and total and unit:
            reported.append(done)

    resumed = list(pipeline.generate(case.make_request(), record_steps, ignore_tokens, stored))
    assert reported[0] == case.new_tokens // 2
    for ours, uninterrupted in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(ours.codes, uninterrupted.codes)


def test_a_sample_has_the_same_codes_alone_and_in_a_batch_of_four(load: Load) -> None:
    pipeline = load(MONO)
    sampling = Sampling(do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=50, top_p=0.95)
    samples = [
        SampleRequest(prompt, None, seed) for prompt, seed in [("rock", 7), ("a calm waltz", 8), ("rock", 9), ("x", 7)]
    ]
    together = list(pipeline.generate(GenerationRequest(samples, 150, sampling), ignore_report, ignore_tokens, None))
    for sample, generated in zip(samples, together, strict=True):
        [alone] = list(
            pipeline.generate(GenerationRequest([sample], 150, sampling), ignore_report, ignore_tokens, None)
        )
        np.testing.assert_array_equal(alone.codes, generated.codes)
    assert len({generated.codes.tobytes() for generated in together}) == 4


@pytest.mark.parametrize("do_sample", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("model", [MONO, STEREO], ids=["mono", "stereo"])
def test_a_clip_has_the_same_codes_alone_beside_a_longer_one_first_and_second(
    load: Load, model: Model, do_sample: bool
) -> None:
    pipeline = load(model)
    sampling = Sampling(do_sample=do_sample, guidance_scale=3.0, temperature=1.0, top_k=50, top_p=0.95)
    short, long = (Clip(samples, 7).make(model.size, model.size.channels) for samples in (333, 1_122))

    def generate(*samples: SampleRequest) -> list[GeneratedSample]:
        request = GenerationRequest(samples, 40, sampling)
        return [*pipeline.generate(request, ignore_report, ignore_tokens, None)]

    for prompts in (("rock", "a calm waltz"), (None, None)):
        wanted, other = SampleRequest(prompts[0], short, 5), SampleRequest(prompts[1], long, 6)
        [alone] = generate(wanted)
        frames = -(-333 // pipeline.config.codec.hop) + 37
        assert (alone.codes.shape[1], alone.audio.shape[1]) == (frames, frames * pipeline.config.codec.hop)
        for place, samples in ((0, (wanted, other)), (1, (other, wanted)), (1, (other, wanted, other))):
            together = generate(*samples)[place]
            np.testing.assert_array_equal(together.codes, alone.codes)
            np.testing.assert_allclose(together.audio, alone.audio, rtol=0, atol=1e-6)


def test_samples_that_do_not_fit_the_memory_together_are_generated_one_after_another(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = load(MONO)
    decoder = pipeline.model.decoder
    sampling = Sampling(do_sample=True, guidance_scale=3.0, temperature=1.0, top_k=0, top_p=1.0)
    request = GenerationRequest([SampleRequest("rock", None, seed) for seed in range(3)], 20, sampling)
    whole = list(pipeline.generate(request, ignore_report, ignore_tokens, None))
    slots = set[int]()

    def record_slots(event: BatchEvent, state: BatchState) -> None:
        if event is BatchEvent.STEP:
            slots.add(state.slots)

    # The new scheduler replaces ``on_compile``. This line makes monkeypatch restore the old value after the test.
    monkeypatch.setattr(decoder, "on_compile", decoder.on_compile)
    limits = BatchLimits(max_slots=16, max_cache_bytes=1)
    monkeypatch.setattr(pipeline, "scheduler", BatchScheduler(decoder, limits, record_slots))
    reported: list[tuple[int, int]] = []

    def record_steps(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "generating" and unit:
            reported.append((done, total))

    samples = list(pipeline.generate(request, record_steps, ignore_tokens, None))
    assert slots == {2}
    assert reported[-1] == (20, 20)
    assert reported == sorted(reported)
    for ours, theirs in zip(samples, whole, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_music_longer_than_the_positions_of_the_model_is_refused(load: Load) -> None:
    request = replace(CASES_BY_NAME["text_guided"].make_request(), new_tokens=512)
    with pytest.raises(JobFailedError) as caught:
        list(load(MONO).generate(request, ignore_report, ignore_tokens, None))
    assert (caught.value.type, caught.value.text.code) == ("too-long", "music-too-long")
    assert caught.value.text.values == {"positions": 512, "used": 1, "free": 511, "new_tokens": 512}


def test_a_job_can_be_stopped_at_each_step(load: Load) -> None:
    pipeline = load(MONO)
    request = CASES_BY_NAME["text_guided"].make_request()
    for stop_at in (0, 1, 17):
        steps = 0

        def stop(*, stage: str, done: int, total: int, unit: str) -> None:
            nonlocal steps
            if stage == "generating" and total and unit:
                steps = done
                if done >= stop_at:  # noqa: B023 - called in this iteration only
                    raise JobStoppedError(text("cancelled"))

        with pytest.raises(JobStoppedError):
            list(pipeline.generate(request, stop, ignore_tokens, None))
        assert steps == stop_at


class BlockedCodec:
    """A codec whose method ``decode`` waits until ``release`` is called."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec
        self._released = threading.Event()
        self.calls = 0

    def release(self) -> None:
        self._released.set()

    def decode(self, codes: Codes, on_progress: Callable[[], None]) -> Any:
        self.calls += 1
        assert self._released.wait(DEADLINE_S)
        return self._codec.decode(codes, on_progress)


def test_samples_are_decoded_one_at_a_time_and_a_waiting_job_can_be_stopped(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, request = load(MONO), CASES_BY_NAME["text_guided"].make_request()
    blocked: Any = BlockedCodec(pipeline.model.codec)
    monkeypatch.setattr(pipeline, "model", replace(pipeline.model, codec=blocked))
    reports = iter(range(3))

    def stop_while_it_waits(*, stage: str, done: int, total: int, unit: str) -> None:
        if stage == "decoding" and done < total and unit and next(reports) == 2:
            raise JobStoppedError(text("cancelled"))

    with ThreadPoolExecutor() as pool:
        first = pool.submit(lambda: list(pipeline.generate(request, ignore_report, ignore_tokens, None)))
        try:
            wait_until(lambda: blocked.calls, "the first sample to be decoded")
            with pytest.raises(JobStoppedError):
                list(pipeline.generate(request, stop_while_it_waits, ignore_tokens, None))
            assert blocked.calls == 1
        finally:
            blocked.release()
        assert len(first.result(DEADLINE_S)) == 1
