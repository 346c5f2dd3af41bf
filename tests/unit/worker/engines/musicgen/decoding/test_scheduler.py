"""A sample gets its own music from the batch, alone or beside others of its job, at once or resumed."""

from dataclasses import replace

import numpy as np
import pytest

from tests.references.musicgen_cases import CASES, Case
from tests.unit.worker.engines.musicgen.decoding.fake_decoder import FakeDecoder
from tests.unit.worker.engines.musicgen.decoding.scheduler_jobs import (
    COMPANY,
    DRAWN,
    GUIDED,
    JAZZ,
    PLANS,
    ROCK,
    Plan,
    generate,
    ignore,
    run,
)
from tests.unit.worker.engines.musicgen.model_shapes import shape_decoder
from worker.engines.musicgen.decoding.delay import build_pattern
from worker.engines.musicgen.decoding.sequence import TokenSequence


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_logits_of_transformers_give_the_tokens_of_transformers(case: Case) -> None:
    """Guidance, temperature, top-k, top-p and draws together, at the positions whose logits were kept."""
    arrays, order = case.read(), case.order()
    samples = len(case.prompts)
    text = None if case.prompts[0] is None else ROCK
    replayed = 0
    for index, (sample, tokens) in enumerate(zip(order.samples, arrays["tokens"].astype(np.int32), strict=True)):
        prompt = arrays["prompt_codes"][index] if case.clips else None
        pattern = build_pattern(prompt, order.new_tokens, shape_decoder(case.model.size))
        for place, position in enumerate(arrays["positions"].tolist()):
            track = TokenSequence(pattern, text, order.sampling, sample.seed, tokens[:, : position + 1])
            assert (len(track.texts) == 2) == case.guided
            if track.position == position and not track.finished:
                logits = arrays["logits"][:, :, place]
                track.extend(logits[index], logits[samples + index] if case.guided else None)
                np.testing.assert_array_equal(track.tokens[:, position + 1], tokens[:, position + 1])
                replayed += 1
    assert replayed or case.name == "clip_shortest"  # where nothing is generated
