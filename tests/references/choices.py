"""Whether a case is worth comparing with: how close its choices were, and how varied what came out."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.references.musicgen_cases import Case
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms

LEAST_GAP: Final = 2e-3
"""Between the best two logits, or the logarithms of what they draw."""
BORDER: Final = 5e-4
"""How near a logit may be to the border of the top k, and a share to that of the top p, and decide nothing."""
LEAST_CODE_GAP: Final = 1e-4
"""Between the squared distances of the two nearest codes, in comparison to the squares they consist of."""
LEAST_DISTINCT: Final = 8
"""How many codes a row must have, or a third of its length."""
LEAST_DRAWN: Final = 0.2
"""The share of sampled tokens that are not the likeliest."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class UnfitCaseError(Exception):
    """The case hangs on a rounding error, or shows nothing."""


def draw_waits(case: Case, position: int) -> Floats:
    """Draw the exponential variates that probabilities are divided by: shape (samples * codebooks, codes)."""
    size = case.model.size
    codebooks = size.codebooks * size.channels
    uniforms = [draw_uniforms(seed, position, codebooks, size.codebook_size) for seed in case.seeds]
    return -np.log1p(-np.concatenate(uniforms))


def check_choices(case: Case, steps: Sequence[Floats], tokens: NDArray[np.int16], decided: Flags) -> float:
    """Choose every token again in float64, and return by how much the closest choice was made.

    Parameters
    ----------
    steps
        The logits of each step: shape (rows * codebooks, codes).
    tokens
        What was chosen: shape (samples, codebooks, length), the last positions being those of the steps.
    decided
        Which of them were chosen and not set: the same shape.
    """
    first = tokens.shape[-1] - len(steps)
    choices = [
        _choose(case, logits, first + step, tokens[..., first + step].ravel(), decided[..., first + step].ravel())
        for step, logits in enumerate(steps)
    ]
    likeliest = sum(count for _, count in choices)
    if case.do_sample and likeliest > (1 - LEAST_DRAWN) * decided.sum():
        raise UnfitCaseError(f"{likeliest} of {decided.sum()} tokens are the likeliest, as if none had been drawn.")
    return min(gap for gap, _ in choices)


def _choose(case: Case, logits: Floats, position: int, tokens: NDArray[np.int16], decided: Flags) -> tuple[float, int]:
    """Choose the tokens of one position; return the smallest gap, and how many are the likeliest ones."""
    scores = logits
    if case.guided:
        conditional, unconditional = np.split(logits, 2)
        scores = unconditional + (conditional - unconditional) * case.guidance_scale
    keys, possible, sure = scores, np.ones(scores.shape, bool), np.ones(scores.shape, bool)
    if case.do_sample:
        scores = scores / case.temperature
        possible, sure = _bound(case, scores)
        keys = scores - np.log(draw_waits(case, position))
    keys, sure, tokens = np.where(possible, keys, -np.inf)[decided], sure[decided], tokens[decided]
    if not len(tokens):
        return np.inf, 0
    if not np.array_equal(keys.argmax(axis=-1), tokens):
        raise UnfitCaseError(f"Position {position}: transformers chose another token.")
    if not sure[np.arange(len(tokens)), tokens].all():
        raise UnfitCaseError(f"Position {position}: a token hangs on the border of the top k or p.")
    second, best = np.sort(keys, axis=-1)[:, -2:].T
    gap = float((best - second).min())
    if gap <= LEAST_GAP:
        raise UnfitCaseError(f"Position {position}: the best two tokens are {gap:.1e} apart.")
    return gap, int((scores[decided].argmax(axis=-1) == tokens).sum())


def _bound(case: Case, scores: Floats) -> tuple[Flags, Flags]:
    """Tell which tokens may be within the top k and the top p, and which are for sure."""
    kept = [np.ones(scores.shape, bool)]
    if 0 < case.top_k < scores.shape[-1]:
        outside, inside = np.sort(scores, axis=-1)[:, -case.top_k - 1 :][:, :2, None].swapaxes(0, 1)
        kept = [scores >= inside - BORDER, scores > outside + BORDER]
    if case.top_p == 1:
        return kept[0], kept[-1]
    possible, sure = np.zeros(scores.shape, bool), np.ones(scores.shape, bool)
    for tokens in kept:
        exponents = np.where(tokens, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0)
        order = exponents.argsort(axis=-1)
        shares = np.take_along_axis(exponents, order, -1).cumsum(axis=-1) / exponents.sum(axis=-1, keepdims=True)
        up_to = np.empty_like(shares)
        np.put_along_axis(up_to, order, shares, -1)
        possible |= tokens & (up_to > 1 - case.top_p - BORDER)
        sure &= tokens & (up_to > 1 - case.top_p + BORDER)
    return possible, sure


def check_variety(tokens: NDArray[np.int16], decided: Flags) -> None:
    """Check that each codebook of each sample has many codes, where it is long enough for that."""
    for row, chosen in zip(tokens.reshape(-1, tokens.shape[-1]), decided.reshape(-1, tokens.shape[-1]), strict=True):
        least = min(LEAST_DISTINCT, chosen.sum() // 3)
        if len(set(row[chosen])) < least:
            raise UnfitCaseError(f"Only {len(set(row[chosen]))} of {chosen.sum()} codes are distinct.")


def check_codes(embeddings: Any, codes: Any, codec: Any) -> None:
    """Quantise again in float64, and check that no code was nearly another.

    Parameters
    ----------
    embeddings
        Torch's, shape (batch, codec_hidden, frames).
    codes
        Torch's, shape (batch, codebooks, frames).
    codec
        Transformers' EnCodec.
    """
    residual = embeddings.double().transpose(1, 2).flatten(0, 1).numpy()
    for layer, chosen in zip(codec.quantizer.layers, codes.transpose(0, 1).flatten(1).numpy(), strict=True):
        codebook = layer.codebook.embed.double().numpy()
        squares = np.square(residual).sum(axis=-1, keepdims=True) + np.square(codebook).sum(axis=-1)
        distances = squares - 2 * residual @ codebook.T
        if not np.array_equal(distances.argmin(axis=-1), chosen):
            raise UnfitCaseError("transformers took another code.")
        nearest, next_nearest = np.sort(distances, axis=-1)[:, :2].T
        gap = ((next_nearest - nearest) / squares[np.arange(len(chosen)), chosen]).min()
        if gap < LEAST_CODE_GAP:
            raise UnfitCaseError(f"Two codes are nearly as near: {gap:.1e}.")
        residual = residual - codebook[chosen]
