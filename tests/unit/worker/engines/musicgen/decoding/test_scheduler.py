"""A sequence gets the expected tokens: alone or with other sequences of its job, from the start or resumed."""

from dataclasses import replace

import numpy as np
import pytest

from tests.references.musicgen_cases import CASES, Case
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import FakeDecoder
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    FIRST_JOB,
    GUIDED,
    JAZZ,
    PLANS,
    ROCK,
    SAMPLED,
    Plan,
    check_generation,
    generate,
    ignore,
)
from tests.unit.worker.engines.musicgen.model_shapes import shape_decoder
from worker.engines.musicgen.decoding.delay import build_pattern
from worker.engines.musicgen.decoding.sequence import TokenSequence


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_sequence_alone_gets_the_expected_tokens(plan: Plan) -> None:
    check_generation([plan])


def test_different_plans_have_different_tokens() -> None:
    plan = PLANS["sampled"]
    others = [
        replace(plan, text=JAZZ),
        replace(plan, text=None),
        replace(plan, seed=4),
        replace(plan, sampling=GUIDED),
        replace(plan, sampling=replace(SAMPLED, guidance_scale=1.0)),
    ]
    assert len({each.compute_expected().tobytes() for each in [plan, *others]}) == 6


def test_only_sequences_with_guidance_have_a_second_slot() -> None:
    assert [len(plan.build().slot_texts) for plan in FIRST_JOB] == [2, 1, 1, 2]
    assert len(check_generation(FIRST_JOB).list_calls("admit")) == 6
    assert check_generation([PLANS["unconditional"]]).list_calls("admit") == [(0,)]


def test_tokens_do_not_depend_on_the_other_sequences_of_the_job() -> None:
    check_generation(FIRST_JOB)
    check_generation(FIRST_JOB[::-1])


@pytest.mark.parametrize("max_chunk", [1, 4, 5, 9, 10, 64])
def test_known_tokens_are_read_once_in_chunks(max_chunk: int) -> None:
    plan = PLANS["clip and text"]
    decoder = check_generation([plan], FakeDecoder(max_chunk))
    known = 9  # with the start token, ten positions are known; the first step reads the tenth
    for slot in (0, 1):
        fed = [(position, count) for fed_slot, position, count in decoder.list_calls("feed") if fed_slot == slot]
        assert fed == [(start, min(max_chunk, known - start)) for start in range(0, known, max_chunk)]
    assert decoder.list_positions() == [[position] * 2 for position in range(known, known + plan.new_tokens)]


@pytest.mark.parametrize("plan", FIRST_JOB, ids=["sampled", "unconditional", "clip", "clip and text"])
def test_a_sequence_resumed_at_any_position_gets_the_same_tokens(plan: Plan) -> None:
    expected = plan.compute_expected()
    given_length = plan.build().given_length
    assert plan.build().known_length == given_length
    for known in range(expected.shape[1] + 1):
        sequence = plan.build(expected[:, :known])
        assert sequence.known_length == max(known, given_length)
        assert sequence.given_length == given_length
        decoder = FakeDecoder()
        generate(decoder, [sequence], ignore)
        np.testing.assert_array_equal(sequence.tokens, expected)
        assert len(decoder.list_calls("step")) == expected.shape[1] - max(known, given_length)


def test_sequences_resumed_at_different_positions_share_a_batch() -> None:
    expected = [plan.compute_expected() for plan in FIRST_JOB]
    sequences = [
        plan.build(tokens[:, :known]) for plan, tokens, known in zip(FIRST_JOB, expected, (9, 3, 0, 12), strict=True)
    ]
    generate(FakeDecoder(3), sequences, ignore)
    for sequence, tokens in zip(sequences, expected, strict=True):
        np.testing.assert_array_equal(sequence.tokens, tokens)


def test_a_sequence_changes_neither_the_pattern_nor_the_resumed_tokens() -> None:
    plan = PLANS["sampled"]
    pattern = plan.pattern.copy()
    resumed = plan.compute_expected()[:, :5]
    resumed_before = resumed.copy()
    sequence = plan.build(resumed)
    generate(FakeDecoder(), [sequence], ignore)
    sequence.tokens[:] = 0
    np.testing.assert_array_equal(plan.pattern, pattern)
    np.testing.assert_array_equal(resumed, resumed_before)


@pytest.mark.parametrize("new_tokens", [1, 2, 3])
def test_nothing_is_generated_if_the_new_tokens_do_not_exceed_the_delays(new_tokens: int) -> None:
    plan = Plan(ROCK, SAMPLED, new_tokens=new_tokens, prompt_frames=9)
    sequence = plan.build()
    assert sequence.finished
    decoder = FakeDecoder()
    generate(decoder, [sequence], ignore)
    assert decoder.list_calls("step") == []
    np.testing.assert_array_equal(sequence.tokens, plan.pattern)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_logits_of_transformers_give_the_tokens_of_transformers(case: Case) -> None:
    """Test guidance, temperature, top-k, top-p and draws together, at the positions with logits in the reference."""
    arrays, request = case.read(), case.make_request()
    samples = len(case.prompts)
    text = None if case.prompts[0] is None else ROCK
    compared = 0
    for index, (sample, tokens) in enumerate(zip(request.samples, arrays["tokens"].astype(np.int32), strict=True)):
        clip = arrays["prompt_codes"][index] if case.clips else None
        pattern = build_pattern(clip, request.new_tokens, shape_decoder(case.model.size))
        for place, position in enumerate(arrays["positions"].tolist()):
            sequence = TokenSequence(pattern, text, request.sampling, sample.seed, tokens[:, : position + 1])
            assert (len(sequence.slot_texts) == 2) == case.guided
            if sequence.position == position and not sequence.finished:
                logits = arrays["logits"][:, :, place]
                sequence.extend(logits[index], logits[samples + index] if case.guided else None)
                np.testing.assert_array_equal(sequence.tokens[:, position + 1], tokens[:, position + 1])
                compared += 1
    assert compared or case.name == "clip_shortest"  # this case generates nothing
