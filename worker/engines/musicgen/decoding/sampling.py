"""Chooses tokens from logits: guidance, temperature, top-k, top-p, and the random draw."""

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.request import Sampling

Logits = NDArray[np.float32]
"""Shape (codebooks, vocabulary)."""

Weights = NDArray[np.float64]
"""Shape (codebooks, vocabulary)."""

# The minimum of the random times in `choose_tokens`. A time of exactly 0 would cause a division by 0, and could select
# an excluded token.
_MIN_TIME = np.finfo(np.float64).tiny


def guide(conditional: Logits, unconditional: Logits, scale: float) -> Logits:
    """Apply classifier-free guidance: move the logits with the prompt away from the logits without the prompt.

    References
    ----------
    Ho and Salimans 2022, "Classifier-free diffusion guidance"; the scale is defined as in Copet et al. 2023,
    "Simple and controllable music generation", where a scale of 1 means no guidance.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # `TokenSequence.extend` reports values that are not finite
        guided: Logits = unconditional + (conditional - unconditional) * np.float32(scale)
    return guided


def choose_tokens(logits: Logits, sampling: Sampling, uniforms: NDArray[np.float64] | None) -> NDArray[np.int32]:
    """Choose one token per codebook.

    Parameters
    ----------
    logits
        Finite logits; if the sample is guided, the logits after guidance.
    uniforms
        Random numbers in [0, 1), shape (codebooks, vocabulary). Not needed if ``sampling.do_sample`` is false: the most
        likely tokens are chosen then.

    Returns
    -------
    Shape (codebooks,).
    """
    if not sampling.do_sample or uniforms is None:
        return np.asarray(logits.argmax(axis=-1), dtype=np.int32)
    weights = weigh(logits, sampling)
    # Each token gets an independent exponential time whose rate is the probability of the token. The token with the
    # shortest time is then a draw with these probabilities. A search in the cumulative probabilities would depend on
    # the rounding errors of a thousand sums; this method does not.
    times = np.maximum(-np.log1p(-uniforms), _MIN_TIME)
    return np.asarray((weights / times).argmax(axis=-1), dtype=np.int32)


def weigh(logits: Logits, sampling: Sampling) -> Weights:
    """Return weights that are proportional to the probabilities of the tokens; excluded tokens have the weight 0.

    Temperature, top-k and top-p are applied in this order, as in transformers. Tokens with the same score
    as the k-th token are kept.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # at very low temperatures, every score except the highest becomes -inf
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
    """Exclude the least likely tokens: as many as possible with a total probability of at most ``1 - top_p``.

    The largest score of each codebook must be 0.

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
