"""Brings all attributes to one scale; the scaling is fitted on the training part only."""

from dataclasses import dataclass

import numpy as np

from shared.kinds.knn.parameters import Normalisation
from worker.engines.knn.space import Floats


@dataclass(frozen=True)
class Scaling:
    """A scaling: subtracts an offset from each attribute, and divides the difference by a divisor.

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
    """Fit a scaling to the training part, shape (n, d); return ``None`` if values stay as they are.

    An attribute that is constant in the training part is divided by one: it does
    not distinguish training rows, and another value in a query stays finite.
    """
    if normalisation is Normalisation.NONE:
        return None
    lowest, highest = training.min(axis=0), training.max(axis=0)
    if normalisation is Normalisation.MINMAX:
        offset, divisor = lowest, highest - lowest
    else:
        offset, divisor = training.mean(axis=0), training.std(axis=0)
    # The extremes are compared: the computed deviation of equal values can be a rounding error instead of zero.
    constant = (lowest == highest) | (divisor == 0)
    return Scaling(np.where(constant, lowest, offset), np.where(constant, 1.0, divisor))
