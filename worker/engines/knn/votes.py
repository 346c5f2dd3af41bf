"""What the neighbours say: majorities for classes, means for values."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.kinds.knn.parameters import Weights
from worker.engines.knn.space import Floats, Indices

TOUCHING: Final = 1e-300
"""A nearer neighbour counts as at distance zero: one over its distance is not for float64."""


def weigh(distances: Floats, weights: Weights) -> Floats:
    """Weigh neighbours, shape (q, k), nearest first; every prefix of a row is weighed as it would be alone.

    With distance weights a neighbour counts 1/d. If some are at distance zero, only
    those count; if all are infinitely far, they count equally.
    """
    if weights is Weights.UNIFORM:
        return np.ones_like(distances)
    touching = distances < TOUCHING
    with np.errstate(divide="ignore", over="ignore"):
        inverse = 1 / distances
    nearest = distances[:, :1]
    inverse = np.where(nearest < TOUCHING, touching, inverse)
    return np.where(np.isinf(nearest), 1.0, inverse)


def elect(labels: Indices, weights: Floats, classes: int) -> Indices:
    """Elect the class with the most weight for each query; of equals, the lowest.

    Parameters
    ----------
    labels
        Shape (q, k): the neighbours' classes.
    weights
        Shape (q, k).
    classes
        How many classes there are.

    Returns
    -------
    numpy.ndarray
        Shape (q,), int64.
    """
    places = labels + classes * np.arange(len(labels))[:, None]
    votes = np.bincount(places.ravel(), weights.ravel(), minlength=len(labels) * classes)
    return np.asarray(votes.reshape(len(labels), classes).argmax(axis=1))


def average(values: Floats, weights: Floats) -> NDArray[np.float64]:
    """Average the neighbours' values, shape (q, k), by weight; shape (q,)."""
    return np.asarray((values * weights).sum(axis=1) / weights.sum(axis=1))
