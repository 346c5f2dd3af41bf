"""Tokens are chosen as in transformers, and drawn with their probabilities."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from worker.engines.musicgen.decoding.random_numbers import draw_uniforms
from worker.engines.musicgen.decoding.sampling import choose_tokens, guide, weigh
from worker.engines.musicgen.request import Sampling

ALL = Sampling(do_sample=True, guidance_scale=1.0, temperature=1.0, top_k=0, top_p=1.0)
ROUNDING = 1e-6


def make_logits(seed: int = 0, codebooks: int = 4, vocabulary: int = 200) -> NDArray[np.float32]:
    return (3 * np.random.default_rng(seed).standard_normal((codebooks, vocabulary))).astype(np.float32)


def weigh_plainly(logits: list[float], sampling: Sampling) -> list[float]:
    """Compute the probability of each token in plain Python, in float64."""
    scores = [logit / sampling.temperature for logit in logits]
    kept = set(range(len(scores)))
    if 0 < sampling.top_k < len(scores):
        kth = sorted(scores, reverse=True)[sampling.top_k - 1]
        kept = {token for token in kept if scores[token] >= kth}
    shares = {token: np.exp(scores[token] - max(scores)) for token in kept}
    total = sum(shares.values())
    if sampling.top_p < 1:
        above = 0.0
        for token in sorted(kept, key=lambda token: scores[token], reverse=True):
            if above >= sampling.top_p:
                kept.remove(token)
            above += shares[token] / total
    total = sum(shares[token] for token in kept)
    return [float(shares[token] / total) if token in kept else 0.0 for token in range(len(scores))]


def compute_probabilities(logits: NDArray[np.float32], sampling: Sampling) -> NDArray[np.float64]:
    weights = weigh(logits, sampling)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), dtype=np.float64)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 7, 199, 200, 201, 2_048])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.8, 0.999, 1.0])
def test_probabilities_agree_with_a_plain_implementation(temperature: float, top_k: int, top_p: float) -> None:
    sampling = replace(ALL, temperature=temperature, top_k=top_k, top_p=top_p)
    logits = make_logits()
    expected = np.array([weigh_plainly(row, sampling) for row in logits.tolist()])
    probabilities = compute_probabilities(logits, sampling)
    np.testing.assert_array_equal(probabilities > 0, expected > 0)
    np.testing.assert_allclose(probabilities, expected, atol=ROUNDING)


def count_kept(probabilities: list[float], sampling: Sampling) -> int:
    return np.count_nonzero(weigh(np.log([probabilities]).astype(np.float32), sampling))


def test_temperature_is_applied_before_top_p() -> None:
    probabilities = [0.5, 0.25, 0.15, 0.1]
    assert count_kept(probabilities, replace(ALL, top_p=0.7)) == 2
    # At the temperature 0.5, the most likely token has the probability 0.25 / 0.345, which is above 0.7.
    assert count_kept(probabilities, replace(ALL, top_p=0.7, temperature=0.5)) == 1
    assert count_kept(probabilities, replace(ALL, top_p=0.7, temperature=2.0)) == 3


def test_top_k_is_applied_before_top_p() -> None:
    probabilities = [0.5, 0.3, 0.15, 0.05]
    assert count_kept(probabilities, replace(ALL, top_p=0.6)) == 2
    # Among the two tokens that top-k keeps, the most likely token has the probability 0.5 / 0.8, which is above 0.6.
    assert count_kept(probabilities, replace(ALL, top_k=2, top_p=0.6)) == 1


def test_tokens_with_the_same_score_as_the_kth_token_are_kept() -> None:
    logits = np.array([[1, 3, 2, 2, 0, 2], [5, 4, 3, 2, 1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(
        weigh(logits, replace(ALL, top_k=2)) > 0,
        [[False, True, True, True, False, True], [True, True, False, False, False, False]],
    )


def test_the_most_likely_token_is_kept_with_the_smallest_top_p() -> None:
    logits = make_logits()
    kept = weigh(logits, replace(ALL, top_p=5e-324)) > 0
    np.testing.assert_array_equal(kept.sum(axis=-1), 1)
    np.testing.assert_array_equal(kept.argmax(axis=-1), logits.argmax(axis=-1))


@pytest.mark.parametrize("temperature", [5e-324, 1e-50, 1e-38, 1e-3])
@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_the_most_likely_token_is_drawn_at_the_smallest_temperatures(temperature: float, top_p: float) -> None:
    logits = make_logits() * np.float32(100)
    sampling = replace(ALL, temperature=temperature, top_k=50, top_p=top_p)
    for position in range(20):
        chosen = choose_tokens(logits, sampling, draw_uniforms(1, position, *logits.shape))
        np.testing.assert_array_equal(chosen, logits.argmax(axis=-1))


def test_a_constant_added_to_all_logits_has_no_effect() -> None:
    logits = np.round(make_logits())
    np.testing.assert_array_equal(weigh(logits + np.float32(2.0**20), ALL), weigh(logits, ALL))


def test_the_most_likely_token_is_chosen_without_sampling() -> None:
    logits = make_logits()
    sampling = replace(ALL, do_sample=False)
    chosen = choose_tokens(logits, sampling, None)
    assert chosen.dtype == np.int32
    np.testing.assert_array_equal(chosen, logits.argmax(axis=-1))
    np.testing.assert_array_equal(choose_tokens(logits, sampling, np.full(logits.shape, 0.5)), chosen)


@pytest.mark.parametrize(
    "sampling",
    [ALL, replace(ALL, temperature=2.0), replace(ALL, top_k=4), replace(ALL, top_p=0.7), replace(ALL, temperature=0.5)],
    ids=str,
)
def test_tokens_are_drawn_with_the_expected_frequencies(sampling: Sampling) -> None:
    logits = np.array([1.0, -1.0, 0.5, 2.0, 0.0, 1.5], dtype=np.float32)
    draws = 20_000
    expected = draws * np.array(weigh_plainly(logits.tolist(), sampling))
    for seed in (1, 2):
        rows = np.tile(logits, (draws, 1))
        chosen = choose_tokens(rows, sampling, draw_uniforms(seed, 9, *rows.shape))
        counts = np.bincount(chosen, minlength=len(logits))
        np.testing.assert_array_equal(counts[expected == 0], 0)
        assert chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 0.001


def test_tokens_of_one_seed_have_the_expected_frequencies_over_many_positions() -> None:
    logits = np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]], dtype=np.float32)
    chosen = np.array([choose_tokens(logits, ALL, draw_uniforms(5, position, 2, 3)) for position in range(4_000)])
    for codebook, row in enumerate(logits.tolist()):
        counts = np.bincount(chosen[:, codebook], minlength=3)
        assert chisquare(counts, 4_000 * np.array(weigh_plainly(row, ALL))).pvalue > 0.001
    pairs = np.bincount(chosen[:, 0] * 3 + chosen[:, 1], minlength=9)
    first, second = (weigh_plainly(row, ALL) for row in logits.tolist())
    together = np.outer(first, second).ravel()
    assert chisquare(pairs, 4_000 * together).pvalue > 0.001


@pytest.mark.slow
def test_tokens_of_a_large_vocabulary_are_drawn_with_the_expected_frequencies() -> None:
    """Test `choose_tokens`, which draws a random time for each token and chooses the token with the shortest time.

    With 2,048 tokens, the shortest time is about 1 / 2,048. So this test finds errors in the distribution of very short
    times, which a test with few tokens does not find.
    """
    codebooks, vocabulary, positions, at_once = 4, 2_048, 2_000, 250
    row = (1.5 * np.random.default_rng(3).standard_normal(vocabulary)).astype(np.float32)
    logits = np.tile(row, (codebooks * at_once, 1))
    counts = np.zeros(vocabulary, dtype=np.int64)
    for first in range(0, positions, at_once):
        uniforms = [draw_uniforms(7, position, codebooks, vocabulary) for position in range(first, first + at_once)]
        counts += np.bincount(choose_tokens(logits, ALL, np.concatenate(uniforms)), minlength=vocabulary)
    expected = codebooks * positions * np.array(weigh_plainly(row.tolist(), ALL))
    # The tokens, sorted by probability, are divided into ten groups, each with about a tenth of the probability.
    order = np.argsort(expected)
    tenths = np.minimum(np.cumsum(expected[order]) / expected.sum() * 10, 9).astype(int)
    drawn, likely = (np.bincount(tenths, values[order]) for values in (counts, expected))
    assert chisquare(drawn, likely).pvalue > 0.001


def test_a_token_with_a_draw_of_zero_is_chosen_unless_the_token_is_excluded() -> None:
    logits = np.array([[0.0, 1.0, 2.0, 3.0]], dtype=np.float32)
    uniforms = np.array([[0.0, 0.5, 0.5, 0.5]])
    assert choose_tokens(logits, ALL, uniforms) == 0
    assert choose_tokens(logits, replace(ALL, top_k=2), uniforms) == 3
    assert choose_tokens(logits, replace(ALL, top_k=2), np.zeros((1, 4))) == 3


def test_a_token_with_almost_no_probability_gives_no_warning() -> None:
    logits = np.array([[0.0, -744.0, -2_000.0]], dtype=np.float32)
    assert weigh(logits, ALL)[0, 1] > 0
    assert choose_tokens(logits, ALL, np.array([[1 - 2.0**-53] * 3])) == 0


def test_guidance_moves_the_logits_away_from_the_unconditional_ones() -> None:
    conditional, unconditional = make_logits(1), make_logits(2)
    expected = unconditional.astype(np.float64) + 3.5 * (conditional.astype(np.float64) - unconditional)
    guided = guide(conditional, unconditional, 3.5)
    assert guided.dtype == np.float32
    np.testing.assert_allclose(guided, expected, atol=1e-4)
    np.testing.assert_allclose(guide(conditional, unconditional, 1.0), conditional, atol=1e-5)
    np.testing.assert_array_equal(guide(conditional, conditional, 100.0), conditional)


def test_guidance_keeps_values_that_are_not_finite() -> None:
    infinite = np.full((1, 2), np.inf, dtype=np.float32)
    assert not np.isfinite(guide(infinite, infinite, 3.0)).any()
    assert not np.isfinite(guide(np.full((1, 2), 3e38, dtype=np.float32), np.zeros((1, 2), np.float32), 3.0)).any()
