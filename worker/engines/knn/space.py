"""A training part and its queries, laid out by a metric for the search.

The search compares every query with every training row in float32, on the
device. Pairs that float32 cannot distinguish are decided in float64. For this, a
metric gives the search the float32 operands, a function that measures distances in
float64, and a bound on how far the float32 result can be from the float64 result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Operand = NDArray[np.float32]
Indices = NDArray[np.int64]
Labels = NDArray[np.int64] | NDArray[np.float64]

UNIT_32: Final = 2.0**-24
"""The largest relative error of one rounding to float32; `UNIT_64` is the error of one rounding to float64."""
UNIT_64: Final = 2.0**-53
SMALLEST_32: Final = 2.0**-126
"""A float32 operator may flush smaller magnitudes to zero."""
SMALLEST_64: Final = 2.0**-1074
MODEST: Final = (2.0**-20, 2.0**40)
"""The range of magnitudes whose squares, and sums of squares, stay well inside the range of float32."""


@dataclass(frozen=True)
class Space:
    """What the search needs to know about a training part and its queries.

    Parameters
    ----------
    order
        How a tile computes the *closeness* of a query and a row, which is larger
        if query and row are nearer. ``None``: the inner product of query and row. A number:
        minus the norm, of this order, of the difference of query and row; the
        norm of order 0 is the number of unequal columns.
    queries, rows
        The operands from which a tile computes the closeness, shapes (q, w) and
        (n, w), float32.
    pad
        Shape (w,), float32: a row to fill up tiles. The closeness of this row to
        any query is at most the closeness of any real row to the query.
    error
        Shape (q,): a bound E for each query. There is a strictly decreasing
        function f of the distance such that, for this query and any row, the
        closeness that a tile computes differs by at most E from f(d), both if d
        is the exact distance and if d is the distance that ``measure`` computes.
    measure
        Takes the indices of m queries and of m rows; returns the m distances,
        float64. These are exactly the numbers that a brute-force search computes.
    """

    order: float | None
    queries: Operand
    rows: Operand
    pad: Operand
    error: Floats
    measure: Callable[[Indices, Indices], Floats]


def bound_roundings(count: int, unit: float) -> float:
    """Bound the relative error of ``count`` roundings, one after another.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition,
    lemma 3.1: gamma_n = n u / (1 - n u).
    """
    return count * unit / (1 - count * unit)


def find_scale(*tables: Floats) -> float:
    """Find the power of two that scales magnitudes into a safe range; 1 if all magnitudes are already safe.

    Multiplying by a power of two costs no accuracy. So values around 1e-30 or
    1e100 are as accurate in float32 as values around one.
    """
    magnitude = max(max(float(table.max()), -float(table.min())) for table in tables)
    if magnitude == 0 or MODEST[0] <= magnitude <= MODEST[1]:
        return 1.0
    return float(2.0 ** -np.clip(np.frexp(magnitude)[1], -1000, 1000))
