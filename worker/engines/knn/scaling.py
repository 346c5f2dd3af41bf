"""Brings all attributes to one scale; the scaling is fitted to the training part only."""

from dataclasses import dataclass

import numpy as np

from shared.kinds.knn.parameters import Normalisation
from worker.engines.knn.space import Floats


@dataclass(frozen=True)
class Scaling:
    """Subtracts an offset from each attribute, and divides the difference by a divisor.

    Parameters
    ----------
    offset, divisor
        Shape (d,), float64: one value for each attribute.
    """

    offset: Floats
    divisor: Floats

    def apply(self, table: Floats) -> Floats:
        """Scale rows, shape (m, d)."""
        return (table - self.offset) / self.divisor


def fit(normalisation: Normalisation, training: Floats) -> Scaling | None:
    """Fit a scaling to the training part, shape (n, d); return ``None`` if the values are not to be scaled.

    An attribute that is constant in the training part is divided by one, not by zero.
    So a query that has another value of this attribute stays finite. Any divisor would
    do, since the attribute does not distinguish training rows.
    """
    if normalisation is Normalisation.NONE:
        return None
    lowest, highest = training.min(axis=0), training.max(axis=0)
    if normalisation is Normalisation.MINMAX:
        offset, divisor = lowest, highest - lowest
    else:
        offset, divisor = training.mean(axis=0), training.std(axis=0)
    # The extremes are compared because the computed deviation of equal values can be a rounding error instead of zero.
    constant = (lowest == highest) | (divisor == 0)
    return Scaling(np.where(constant, lowest, offset), np.where(constant, 1.0, divisor))
