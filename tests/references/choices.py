"""Whether a case is a useful reference: how clear its choices of tokens are, and how varied its codes.

Without sampling, the token with the largest logit is chosen. To sample a token, the probability of each token is
divided by an exponential variate, and the token with the largest quotient is chosen. The gap of a choice is the
difference between the best token and the next best token: without sampling, of their logits; with sampling, of the
logarithms of their quotients.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.references.musicgen_cases import Case
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms

MIN_GAP: Final = 2e-3
"""The gap of each choice of a token must be larger than this."""
BORDER_MARGIN: Final = 5e-4
"""A chosen token must be farther than this from the borders at which top-k and top-p exclude tokens.

The distance from the border of the top k is a difference of logits divided by the temperature; the distance from the
border of the top p is a difference of cumulative probabilities.
"""
MIN_CODE_GAP: Final = 1e-4
"""The minimum gap between the squared distances of a vector from the nearest code and from the next nearest code.

The gap is relative: it is divided by the sum of the squared lengths of the vector and of the chosen code.
"""
MIN_DISTINCT_CODES: Final = 8
"""The minimum number of distinct codes in each codebook of a sample.

If fewer than three times this number of tokens were generated in a codebook, a third of these tokens must be distinct.
"""
MIN_UNLIKELY_SHARE: Final = 0.2
"""The minimum share of sampled tokens that are not the likeliest token."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class UnsuitableCaseError(Exception):
    """A rounding error could change the result of the case, or the result is too uniform to be a useful reference."""


def draw_exponentials(case: Case, position: int) -> Floats:
    """Draw the exponential variates by which sampling divides the probabilities: shape (samples * codebooks, codes)."""
    size = case.model.size
    codebooks = size.codebooks * size.channels
    uniforms = [draw_uniforms(seed, position, codebooks, size.codebook_size) for seed in case.seeds]
    return -np.log1p(-np.concatenate(uniforms))


def check_choices(case: Case, steps: Sequence[Floats], tokens: NDArray[np.int16], generated: Flags) -> float:
    """Choose every token again in float64, and return the smallest gap between a chosen token and the next best token.

    Parameters
    ----------
    steps
        The logits of each step: shape (rows * codebooks, codes). The rows are those of the batch: one per sample and,
        if the case is guided, one more per sample, without the text, after these.
    tokens
        The tokens that were chosen: shape (samples, codebooks, length). The tokens at the
        last positions are those that were chosen in ``steps``.
    generated
        Whether each of the tokens was generated (true) or given (false): the shape of ``tokens``.

    Raises
    ------
    UnsuitableCaseError
        A gap is too small, transformers chose another token, or sampling chose almost only the likeliest tokens.
    """
    first = tokens.shape[-1] - len(steps)
    choices = [
        _choose(case, logits, first + step, tokens[..., first + step].ravel(), generated[..., first + step].ravel())
        for step, logits in enumerate(steps)
    ]
    likeliest = sum(count for _, count in choices)
    if case.do_sample and likeliest > (1 - MIN_UNLIKELY_SHARE) * generated.sum():
        raise UnsuitableCaseError(f"{likeliest} of {generated.sum()} tokens are the likeliest, as without sampling.")
    return min(gap for gap, _ in choices)


def _choose(
    case: Case, logits: Floats, position: int, tokens: NDArray[np.int16], generated: Flags
) -> tuple[float, int]:
    """Choose the tokens of one position; return the smallest gap, and the number of tokens that are the likeliest."""
    scores = logits
    if case.guided:
        conditional, unconditional = np.split(logits, 2)
        scores = unconditional + (conditional - unconditional) * case.guidance_scale
    keys, maybe_kept, surely_kept = scores, np.ones(scores.shape, bool), np.ones(scores.shape, bool)
    if case.do_sample:
        scores = scores / case.temperature
        maybe_kept, surely_kept = _filter(case, scores)
        keys = scores - np.log(draw_exponentials(case, position))
    keys = np.where(maybe_kept, keys, -np.inf)[generated]
    surely_kept, tokens = surely_kept[generated], tokens[generated]
    if not len(tokens):
        return np.inf, 0
    if not np.array_equal(keys.argmax(axis=-1), tokens):
        raise UnsuitableCaseError(f"Position {position}: transformers chose another token.")
    if not surely_kept[np.arange(len(tokens)), tokens].all():
        raise UnsuitableCaseError(f"Position {position}: a chosen token is too near to the border of the top k or p.")
    second, best = np.sort(keys, axis=-1)[:, -2:].T
    gap = float((best - second).min())
    if gap <= MIN_GAP:
        raise UnsuitableCaseError(f"Position {position}: the best two tokens are {gap:.1e} apart.")
    return gap, int((scores[generated].argmax(axis=-1) == tokens).sum())


def _filter(case: Case, scores: Floats) -> tuple[Flags, Flags]:
    """Return two masks: of the tokens that may be within the top k and the top p, and of those that surely are.

    A token that is nearer to a border than `BORDER_MARGIN` is in the first mask, but not in the second.
    """
    kept = [np.ones(scores.shape, bool)]
    if 0 < case.top_k < scores.shape[-1]:
        outside, inside = np.sort(scores, axis=-1)[:, -case.top_k - 1 :][:, :2, None].swapaxes(0, 1)
        kept = [scores >= inside - BORDER_MARGIN, scores > outside + BORDER_MARGIN]
    if case.top_p == 1:
        return kept[0], kept[-1]
    maybe_kept, surely_kept = np.zeros(scores.shape, bool), np.ones(scores.shape, bool)
    for tokens in kept:
        exponentials = np.where(tokens, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0)
        order = exponentials.argsort(axis=-1)
        shares = np.take_along_axis(exponentials, order, -1).cumsum(axis=-1) / exponentials.sum(axis=-1, keepdims=True)
        cumulative = np.empty_like(shares)
        np.put_along_axis(cumulative, order, shares, -1)
        maybe_kept |= tokens & (cumulative > 1 - case.top_p - BORDER_MARGIN)
        surely_kept &= tokens & (cumulative > 1 - case.top_p + BORDER_MARGIN)
    return maybe_kept, surely_kept


def check_variety(tokens: NDArray[np.int16], generated: Flags) -> None:
    """Check that the generated codes of each sample vary enough in each codebook, see `MIN_DISTINCT_CODES`."""
    length = tokens.shape[-1]
    for row, mask in zip(tokens.reshape(-1, length), generated.reshape(-1, length), strict=True):
        required = min(MIN_DISTINCT_CODES, mask.sum() // 3)
        if len(set(row[mask])) < required:
            raise UnsuitableCaseError(f"Only {len(set(row[mask]))} of {mask.sum()} codes are distinct.")


def check_codes(embeddings: Any, codes: Any, codec: Any) -> None:
    """Quantise the embeddings again in float64, and check that no other code is almost as near as the chosen code.

    Parameters
    ----------
    embeddings
        A tensor of torch, shape (batch, codec_hidden, frames).
    codes
        A tensor of torch, shape (batch, codebooks, frames).
    codec
        EnCodec as transformers has loaded it.
    """
    residual = embeddings.double().transpose(1, 2).flatten(0, 1).numpy()
    for layer, chosen in zip(codec.quantizer.layers, codes.transpose(0, 1).flatten(1).numpy(), strict=True):
        codebook = layer.codebook.embed.double().numpy()
        squares = np.square(residual).sum(axis=-1, keepdims=True) + np.square(codebook).sum(axis=-1)
        distances = squares - 2 * residual @ codebook.T
        if not np.array_equal(distances.argmin(axis=-1), chosen):
            raise UnsuitableCaseError("transformers chose another code.")
        nearest, next_nearest = np.sort(distances, axis=-1)[:, :2].T
        gap = ((next_nearest - nearest) / squares[np.arange(len(chosen)), chosen]).min()
        if gap < MIN_CODE_GAP:
            raise UnsuitableCaseError(f"Two codes are almost equally near: {gap:.1e}.")
        residual = residual - codebook[chosen]
