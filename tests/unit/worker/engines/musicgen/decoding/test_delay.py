"""The delay pattern is the same as in transformers, and no token is lost when the delays are removed."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from shared.kinds.musicgen.lengths import count_tokens, get_delays, list_delays
from tests.references.musicgen_cases import CASES, TINY, Case
from tests.unit.worker.engines.musicgen.model_shapes import shape_decoder
from worker.engines.musicgen.decoding.delay import TO_GENERATE, build_pattern, remove_delays
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.request import Codes, Tokens

MONO = shape_decoder()
SHAPES = {
    "mono": MONO,
    "stereo": shape_decoder(replace(TINY, channels=2)),
    "single": shape_decoder(replace(TINY, codebooks=1)),
    "single stereo": shape_decoder(replace(TINY, codebooks=1, channels=2)),
    "double": shape_decoder(replace(TINY, codebooks=2)),
    "eight": shape_decoder(replace(TINY, codebooks=8)),
}
EVERY_SHAPE = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)


def make_codes(config: DecoderConfig, frames: int) -> Codes:
    return np.random.default_rng(frames).integers(config.vocabulary, size=(config.codebooks, frames), dtype=np.int16)


def fill(pattern: Tokens, config: DecoderConfig) -> Tokens:
    """Replace each ``TO_GENERATE`` by a token; neighbouring tokens are different."""
    numbers = np.arange(pattern.size, dtype=np.int32).reshape(pattern.shape) % config.vocabulary
    return np.where(pattern == TO_GENERATE, numbers, pattern)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_patterns_are_the_same_as_in_transformers(case: Case) -> None:
    config = shape_decoder(case.model.size)
    arrays = case.read()
    for index, tokens in enumerate(arrays["tokens"].astype(np.int32)):
        prompt = arrays["prompt_codes"][index] if case.clips else None
        pattern = build_pattern(prompt, case.new_tokens, config)
        assert pattern.dtype == np.int32
        given = pattern != TO_GENERATE
        np.testing.assert_array_equal(tokens[given], pattern[given])
        np.testing.assert_array_equal(tokens == config.start, pattern == config.start)
        np.testing.assert_array_equal(remove_delays(tokens, config), arrays["codes"][index])
        frames = 0 if prompt is None else prompt.shape[1]
        assert (remove_delays(pattern, config)[:, frames:] == TO_GENERATE).all()


def test_a_mono_pattern_has_the_published_form() -> None:
    start, new = MONO.start, TO_GENERATE
    prompt = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], dtype=np.int16)
    np.testing.assert_array_equal(
        build_pattern(prompt, 5, MONO),
        [
            [start, 1, 2, new, new, start, start, start],
            [start, start, 3, 4, new, new, start, start],
            [start, start, start, 5, 6, new, new, start],
            [start, start, start, start, 7, 8, new, new],
        ],
    )


def test_the_left_and_the_right_codebook_of_a_pair_have_the_same_delay() -> None:
    assert get_delays(100, SHAPES["stereo"]) == (0, 0, 1, 1, 2, 2, 3, 3)


@pytest.mark.parametrize(("length", "delays"), [(6, (0, 0, 0, 0)), (7, (0, 1, 2, 3))])
def test_a_short_sequence_has_no_delays(length: int, delays: tuple[int, ...]) -> None:
    assert get_delays(length, MONO) == delays


@EVERY_SHAPE
def test_the_counted_number_of_new_tokens_gives_the_requested_number_of_frames(config: DecoderConfig) -> None:
    for prompt_frames, frames in product(range(9), range(1, 21)):
        prompt = make_codes(config, prompt_frames) if prompt_frames else None
        new_tokens = count_tokens(frames, prompt_frames, config)
        codes = remove_delays(fill(build_pattern(prompt, new_tokens, config), config), config)
        assert codes.shape == (config.codebooks, prompt_frames + frames)
        assert codes.dtype == np.int16
        assert ((codes >= 0) & (codes < config.vocabulary)).all()
        if prompt is not None:
            np.testing.assert_array_equal(codes[:, :prompt_frames], prompt)


@EVERY_SHAPE
def test_codes_are_valid_for_any_number_of_generated_tokens(config: DecoderConfig) -> None:
    """If the largest delay exceeds ``new_tokens``, the end of the prompt is cut off.

    In this case, transformers raises an error instead.
    """
    for prompt_frames, new_tokens in product(range(9), range(1, 15)):
        prompt = make_codes(config, prompt_frames)
        pattern = build_pattern(prompt, new_tokens, config)
        assert pattern.shape == (config.codebooks, 1 + prompt_frames + new_tokens)
        tokens = fill(pattern, config)
        codes = remove_delays(tokens, config)
        assert ((codes >= 0) & (codes < config.vocabulary)).all()
        kept = min(prompt_frames, codes.shape[1])
        assert kept >= prompt_frames - max(list_delays(config))
        np.testing.assert_array_equal(codes[:, :kept], prompt[:, :kept])
        # The codes contain all tokens except the start tokens.
        assert np.count_nonzero(tokens != config.start) == codes.size


@EVERY_SHAPE
def test_the_generation_begins_right_after_the_prompt_in_the_first_codebook(config: DecoderConfig) -> None:
    """The decode loop starts to generate at the first position at which any codebook has a token to generate."""
    for prompt_frames, new_tokens in product(range(9), range(1, 15)):
        pattern = build_pattern(make_codes(config, prompt_frames), new_tokens, config)
        to_generate = np.flatnonzero((pattern == TO_GENERATE).any(axis=0))
        np.testing.assert_array_equal(to_generate[:1], np.flatnonzero(pattern[0] == TO_GENERATE)[:1])
        np.testing.assert_array_equal(to_generate, np.arange(1 + prompt_frames, pattern.shape[1])[: len(to_generate)])
        assert len(to_generate) in {0, new_tokens}
