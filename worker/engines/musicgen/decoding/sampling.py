"""From logits to tokens: guidance, temperature, top-k, top-p, and the draw."""

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.request import Sampling

Logits = NDArray[np.float32]
"""Shape (codebooks, vocabulary)."""

Weights = NDArray[np.float64]
"""Shape (codebooks, vocabulary)."""

_SOONEST = np.finfo(np.float64).tiny  # a draw of exactly 0 would divide by 0, and so let in what is left out


def guide(conditional: Logits, unconditional: Logits, scale: float) -> Logits:
    """Move away from what would come without a prompt.

    References
    ----------
    Ho and Salimans 2022, "Classifier-free diffusion guidance"; the scale is counted as in Copet et al. 2023,
    "Simple and controllable music generation", where 1 is no guidance.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found, and told, by the loop
        guided: Logits = unconditional + (conditional - unconditional) * np.float32(scale)
    return guided


def choose_tokens(logits: Logits, sampling: Sampling, uniforms: NDArray[np.float64] | None) -> NDArray[np.int32]:
    """Choose a token per codebook.

    Parameters
    ----------
    logits
        Guided where there is guidance; finite.
    uniforms
        Shape (codebooks, vocabulary), in [0, 1); not needed without sampling.

    Returns
    -------
    Shape (codebooks,).
    """
    if not sampling.do_sample or uniforms is None:
        return np.asarray(logits.argmax(axis=-1), dtype=np.int32)
    weights = weigh(logits, sampling)
    # The first of independent exponential clocks, each at the pace of its token's probability, is a draw from them.
    # Unlike a search in the cumulated probabilities, it does not turn on a rounding error in one of a thousand sums.
    clocks = np.maximum(-np.log1p(-uniforms), _SOONEST)
    return np.asarray((weights / clocks).argmax(axis=-1), dtype=np.int32)


def weigh(logits: Logits, sampling: Sampling) -> Weights:
    """Return what the tokens' probabilities are proportional to, 0 for those that are left out.

    In the order of transformers: temperature, top-k, top-p; tokens that tie with the k-th are kept.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # at the smallest temperatures all but the likeliest fall to -inf
        scores /= sampling.temperature
    vocabulary = scores.shape[-1]
    if 0 < sampling.top_k < vocabulary:
        least = np.partition(scores, vocabulary - sampling.top_k, axis=-1)[:, vocabulary - sampling.top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    if sampling.top_p < 1:
        scores = _keep_nucleus(scores, sampling.top_p)
    weights: Weights = np.exp(scores)
    return weights


def _keep_nucleus(scores: Weights, top_p: float) -> Weights:
    """Leave out the least likely tokens that have ``1 - top_p`` together; the largest score is 0.

    References
    ----------
    Holtzman et al. 2020, "The curious case of neural text degeneration".
    """
    order = scores.argsort(axis=-1, kind="stable")
    weights = np.exp(np.take_along_axis(scores, order, axis=-1))
    cumulated = np.cumsum(weights / weights.sum(axis=-1, keepdims=True), axis=-1)
    tail = cumulated <= 1 - top_p
    tail[:, -1] = False  # the likeliest always stays
    left_out = np.zeros_like(tail)
    np.put_along_axis(left_out, order, tail, axis=-1)
    return np.where(left_out, -np.inf, scores)
