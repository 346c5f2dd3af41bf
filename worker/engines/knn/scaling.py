"""Bringing attributes to one scale, fitted on the training part alone."""

from dataclasses import dataclass

import numpy as np

from shared.kinds.knn.parameters import Normalisation
from worker.engines.knn.space import Floats


@dataclass(frozen=True)
class Scaling:
    """What is taken off each attribute, and what the rest is divided by.

    Parameters
    ----------
    offset, divisor
        Shape (d,), float64.
    """

    offset: Floats
    divisor: Floats

    def apply(self, table: Floats) -> Floats:
        """Scale rows, shape (m, d)."""
        return (table - self.offset) / self.divisor


def fit(normalisation: Normalisation, training: Floats) -> Scaling | None:
    """Fit a scaling to the training part, shape (n, d); None leaves values as they are.

    A constant attribute is divided by one: it says nothing of which rows are
    near, and a value apart from it in a query stays finite.
    """
    if normalisation is Normalisation.NONE:
        return None
    lowest, highest = training.min(axis=0), training.max(axis=0)
    if normalisation is Normalisation.MINMAX:
        offset, divisor = lowest, highest - lowest
    else:
        offset, divisor = training.mean(axis=0), training.std(axis=0)
    # By the extremes: the deviation of equal values comes out as a rounding error, not as zero.
    constant = (lowest == highest) | (divisor == 0)
    return Scaling(np.where(constant, lowest, offset), np.where(constant, 1.0, divisor))
