"""A training part and its queries as a metric lays them out for the search.

The search compares every query with every training row in float32, on the
device, and decides in float64 what float32 cannot distinguish. A metric makes
the search possible by giving it both views of the data, and a bound on how
far the first can be from the second.
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
"""Largest relative error of one rounding to float32; 2**-53 is that of float64."""
UNIT_64: Final = 2.0**-53
SMALLEST_32: Final = 2.0**-126
"""What is smaller may be flushed to zero by a float32 operator."""
SMALLEST_64: Final = 2.0**-1074
MODEST: Final = (2.0**-20, 2.0**40)
"""Magnitudes whose squares and their sums stay well inside float32."""


@dataclass(frozen=True)
class Space:
    """What the search needs to know of a training part and its queries.

    Parameters
    ----------
    order
        What a tile computes for a query and a row, its *closeness*, larger
        if they are nearer: their inner product (None), or minus the
        order-norm of their difference (order 0 counts unequal columns).
    queries, rows
        Operands of that computation, shapes (q, w) and (n, w), float32.
    pad
        Shape (w,), float32: a row no closer to any query than any real row.
    error
        Shape (q,): the closeness that a tile computes for this query and any
        row is at most this far from some strictly falling function of the
        distance, and so is that function of the float64 distance that
        ``measure`` computes.
    measure
        Takes the indices of m queries and of m rows, returns their m
        distances, float64: the very numbers of a brute force.
    """

    order: float | None
    queries: Operand
    rows: Operand
    pad: Operand
    error: Floats
    measure: Callable[[Indices, Indices], Floats]


def bound_roundings(count: int, unit: float) -> float:
    """Bound the relative error that ``count`` roundings in a row can build up.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition,
    lemma 3.1: gamma_n = n u / (1 - n u).
    """
    return count * unit / (1 - count * unit)


def find_scale(*tables: Floats) -> float:
    """Find the power of two that brings magnitudes into a safe range; 1 if they are already in it.

    Multiplying by a power of two costs no accuracy, so that values of 1e-30 or
    1e100 get through float32 as well as those around one do.
    """
    magnitude = max(max(float(table.max()), -float(table.min())) for table in tables)
    if magnitude == 0 or MODEST[0] <= magnitude <= MODEST[1]:
        return 1.0
    return float(2.0 ** -np.clip(np.frexp(magnitude)[1], -1000, 1000))
