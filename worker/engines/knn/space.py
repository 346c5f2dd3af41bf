"""A training part and its queries, laid out by a metric for the search.

The search compares every query with every training row in float32, on the
device. Where float32 is not accurate enough to tell which rows are nearer, distances
in float64 decide. For this, a metric gives the search three things: the operands in
float32, a function that measures distances in float64, and a bound on how far the
float32 results can be from the float64 distances.
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
"""The largest relative error of one rounding to float32."""
UNIT_64: Final = 2.0**-53
"""The largest relative error of one rounding to float64."""
SMALLEST_32: Final = 2.0**-126
"""The smallest magnitude that every float32 operator keeps: an operator may flush smaller magnitudes to zero."""
SMALLEST_64: Final = 2.0**-1074
"""The smallest positive magnitude in float64."""
MODEST: Final = (2.0**-20, 2.0**40)
"""The range of magnitudes whose squares, and sums of squares, stay well inside the range of float32."""


@dataclass(frozen=True)
class Space:
    """What the search needs to know about a training part and its queries.

    Parameters
    ----------
    order
        How a tile computes the *closeness* of a query and a row, which is the larger,
        the nearer the row is to the query. If ``order`` is ``None``, the closeness is the
        inner product of the query and the row. If ``order`` is a number, the difference
        of the query and the row has a norm of this order, and the closeness is minus
        this norm. The norm of order 0 is the number of unequal columns.
    queries, rows
        The operands from which a tile computes the closeness, shapes (q, w) and
        (n, w), float32.
    pad
        Shape (w,), float32: a row to fill up tiles. The closeness of this row to
        any query is at most the closeness of any real row to the query.
    error
        Shape (q,): for each query, a bound E on the error of the closeness. For each
        query there is a strictly decreasing function f of the distance. The closeness
        that a tile computes for the query and any row differs from f(d) by at most E.
        This holds if d is the exact distance, and also if d is the distance that
        ``measure`` computes.
    measure
        Takes the indices of m queries and of m rows; returns the m distances,
        float64. These are exactly the numbers that a brute-force search computes.
    first
        Shape (q,): for each query, the row from which rows at equal distance are ranked, in ascending order and after
        the last row from row 0 on. None ranks them from row 0 on for every query.
    """

    order: float | None
    queries: Operand
    rows: Operand
    pad: Operand
    error: Floats
    measure: Callable[[Indices, Indices], Floats]
    first: Indices | None = None


def bound_roundings(count: int, unit: float) -> float:
    """Bound the relative error of ``count`` roundings, one after another.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition,
    lemma 3.1: gamma_n = n u / (1 - n u).
    """
    return count * unit / (1 - count * unit)


def find_scale(*tables: Floats) -> float:
    """Find the power of two by which the values of all tables are scaled, so that float32 can hold their squares.

    It is 1 if the largest magnitude is 0 or in the range `MODEST`. Multiplying by a
    power of two costs no accuracy. So scaled values that were around 1e-30 or 1e100
    are as accurate in float32 as values around one.
    """
    magnitude = max(max(float(table.max()), -float(table.min())) for table in tables)
    if magnitude == 0 or MODEST[0] <= magnitude <= MODEST[1]:
        return 1.0
    return float(2.0 ** -np.clip(np.frexp(magnitude)[1], -1000, 1000))
