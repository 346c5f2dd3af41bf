"""The prediction from the labels of the neighbours: a majority for classes, a mean for values."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.kinds.knn.parameters import Weights
from worker.engines.knn.space import Floats, Indices

TOUCHING: Final = 1e-300
"""A distance smaller than this counts as zero, because one divided by it may be too large for float64."""


def weigh(distances: Floats, weights: Weights) -> Floats:
    """Compute the weights of neighbours from their distances, both of shape (q, k), nearest first.

    With distance weights, the weight of a neighbour at distance d is 1/d. If some
    neighbours are at distance zero, only these neighbours count. If all neighbours are
    infinitely far away, all count equally. The weights of the first j neighbours of a
    query do not depend on the neighbours that follow.
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
    """For each query, elect the class with the largest sum of weights; if sums are equal, the lowest index.

    Parameters
    ----------
    labels
        Shape (q, k): the class of each neighbour, given by its index.
    weights
        Shape (q, k): the weight of each neighbour.
    classes
        The number of classes.

    Returns
    -------
    numpy.ndarray
        Shape (q,), int64: the index of the elected class of each query.
    """
    places = labels + classes * np.arange(len(labels))[:, None]
    votes = np.bincount(places.ravel(), weights.ravel(), minlength=len(labels) * classes)
    return np.asarray(votes.reshape(len(labels), classes).argmax(axis=1))


def average(values: Floats, weights: Floats) -> NDArray[np.float64]:
    """Return the weighted mean of the neighbours' values for each query; arguments (q, k), result (q,)."""
    return np.asarray((values * weights).sum(axis=1) / weights.sum(axis=1))
