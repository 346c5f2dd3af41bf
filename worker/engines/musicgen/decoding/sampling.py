"""From logits to tokens: guidance, temperature, top-k, top-p, and the draw."""

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.request import Sampling

Logits = NDArray[np.float32]
"""Shape (codebooks, vocabulary)."""

Weights = NDArray[np.float64]
"""Shape (codebooks, vocabulary)."""

_MIN_TIME = np.finfo(np.float64).tiny  # a time of exactly 0 would divide by 0, and could select an excluded token


def guide(conditional: Logits, unconditional: Logits, scale: float) -> Logits:
    """Apply classifier-free guidance: move the logits away from those without a prompt.

    References
    ----------
    Ho and Salimans 2022, "Classifier-free diffusion guidance"; the scale is defined as in Copet et al. 2023,
    "Simple and controllable music generation", where 1 is no guidance.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the decode loop finds and reports what is not finite
        guided: Logits = unconditional + (conditional - unconditional) * np.float32(scale)
    return guided


def choose_tokens(logits: Logits, sampling: Sampling, uniforms: NDArray[np.float64] | None) -> NDArray[np.int32]:
    """Choose a token per codebook.

    Parameters
    ----------
    logits
        After guidance, if there is any; finite.
    uniforms
        Shape (codebooks, vocabulary), in [0, 1); not needed without sampling.

    Returns
    -------
    Shape (codebooks,).
    """
    if not sampling.do_sample or uniforms is None:
        return np.asarray(logits.argmax(axis=-1), dtype=np.int32)
    weights = weigh(logits, sampling)
    # Of independent exponential times, each with the rate of its token's probability, the shortest belongs to a token
    # drawn with these probabilities. Unlike a search in the cumulative probabilities, this does not depend on a
    # rounding error in one of a thousand sums.
    times = np.maximum(-np.log1p(-uniforms), _MIN_TIME)
    return np.asarray((weights / times).argmax(axis=-1), dtype=np.int32)


def weigh(logits: Logits, sampling: Sampling) -> Weights:
    """Return weights that are proportional to the tokens' probabilities, 0 for excluded tokens.

    In the order of transformers: temperature, top-k, top-p; tokens that tie with the k-th are kept.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # at the smallest temperatures all but the most likely token fall to -inf
        scores /= sampling.temperature
    vocabulary = scores.shape[-1]
    if 0 < sampling.top_k < vocabulary:
        kth = np.partition(scores, vocabulary - sampling.top_k, axis=-1)[:, vocabulary - sampling.top_k, None]
        scores = np.where(scores < kth, -np.inf, scores)
    if sampling.top_p < 1:
        scores = _keep_nucleus(scores, sampling.top_p)
    weights: Weights = np.exp(scores)
    return weights


def _keep_nucleus(scores: Weights, top_p: float) -> Weights:
    """Exclude the least likely tokens whose probabilities sum to ``1 - top_p``; the largest score is 0.

    References
    ----------
    Holtzman et al. 2020, "The curious case of neural text degeneration".
    """
    order = scores.argsort(axis=-1, kind="stable")
    weights = np.exp(np.take_along_axis(scores, order, axis=-1))
    cumulative = np.cumsum(weights / weights.sum(axis=-1, keepdims=True), axis=-1)
    tail = cumulative <= 1 - top_p
    tail[:, -1] = False  # the most likely token is always kept
    excluded = np.zeros_like(tail)
    np.put_along_axis(excluded, order, tail, axis=-1)
    return np.where(excluded, -np.inf, scores)
