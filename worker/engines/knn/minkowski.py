"""Manhattan and general Lp distance.

The error bound. Let q be a query, x a row, |q| and |x| their p-norms, d the number of
columns, and u the largest relative error of one rounding. The distance of q and x is
at most |q| + |x|. Four errors are bounded:

- Rounding the points to float32 changes each coordinate by at most u times the
  coordinate. By the triangle inequality, the distance changes by at most u (|q| + |x|).
- A subtraction, d additions and two powers have errors relative to the distance.
- A float32 operator also rounds the exponents p and 1/p. The relative error of a power
  that is caused by this is u times the logarithm of the power, which is at most 88 in
  float32.
- Terms smaller than 2^-126 may be flushed to zero. This changes a p-norm by at most
  (d 2^-126)^(1/p).

The first three errors together are at most (d + `OVERHEAD`) u (|q| + |x|).

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, chapter 3.
"""

from typing import Final

import numpy as np

from shared.errors import JobFailedError
from shared.texts import text
from worker.engines.knn.space import (
    SMALLEST_32,
    SMALLEST_64,
    UNIT_32,
    UNIT_64,
    Floats,
    Indices,
    Operand,
    Space,
    bound_roundings,
)

OVERHEAD: Final = 128
MAX_EXPONENT: Final = 30
FARTHEST: Final = np.float32(2.0**127)


def build(training: Floats, queries: Floats, p: float) -> Space:
    """Lay out queries (q, d) and training rows (n, d) for the Lp distance, p >= 1.

    Raises
    ------
    JobFailedError
        The sum of the p-th powers of differences can exceed the range of float64.
    """
    _check_range(training, queries, p)
    width = training.shape[1]
    centre = training.mean(axis=0)
    moved_rows, moved_queries = training - centre, queries - centre
    sizes = np.abs(moved_queries).max(axis=1)
    largest = max(float(np.abs(moved_rows).max()), float(sizes.max()))
    scale = _find_scale(largest, width, p)
    rooted = width ** (1 / p)
    relative = bound_roundings(width + OVERHEAD, UNIT_32) + bound_roundings(width + OVERHEAD, UNIT_64)
    underflow = (width * SMALLEST_32) ** (1 / p) + (width * SMALLEST_64) ** (1 / p) * scale
    error = relative * rooted * scale * (sizes + largest) + underflow

    def measure(of: Indices, to: Indices) -> Floats:
        difference = np.abs(queries[of] - training[to])
        if p == 1:
            return np.asarray(difference.sum(axis=1))
        return np.asarray(np.power(np.power(difference, p).sum(axis=1), 1 / p))

    return Space(
        order=p,
        queries=_round(moved_queries, scale),
        rows=_round(moved_rows, scale),
        pad=np.full(width, FARTHEST),
        error=error,
        measure=measure,
    )


def _check_range(training: Floats, queries: Floats, p: float) -> None:
    """Refuse values if the p-th powers of their differences overflow float64.

    The distances would be infinite, and infinite distances cannot be ordered.
    """
    highest = np.maximum(training.max(axis=0), queries.max(axis=0))
    lowest = np.minimum(training.min(axis=0), queries.min(axis=0))
    with np.errstate(over="ignore"):
        farthest = float((highest - lowest).max())
        finite = bool(np.isfinite(np.power(farthest, p) * training.shape[1]))
    if not finite:
        raise JobFailedError(
            "values-too-large",
            text("powers-too-large", difference=farthest, p=p),
        )


def _find_scale(largest: float, width: int, p: float) -> float:
    """Find the power of two by which values up to ``largest`` are scaled, so that no p-norm overflows float32.

    The scaled values are smaller than 2^`MAX_EXPONENT`. The sum of the p-th powers of ``width`` differences of scaled
    values stays within the range of float32.
    """
    if largest == 0:
        return 1.0
    exponent = min(MAX_EXPONENT, int((126 - np.log2(width)) / p) - 1)
    return float(2.0 ** np.clip(exponent - np.frexp(largest)[1], -1000, 1000))


def _round(moved: Floats, scale: float) -> Operand:
    return np.asarray(moved * scale, np.float32)
