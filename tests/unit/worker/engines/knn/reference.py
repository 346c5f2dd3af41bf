"""A brute-force search in float64, which the engine is compared with; the code is as simple as possible."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from shared.kinds.knn.parameters import KnnParams, Metric, Task, Weights

METRICS: list[dict[str, Any]] = [
    {"metric": "euclidean"},
    {"metric": "manhattan"},
    {"metric": "minkowski", "p": 2},
    {"metric": "minkowski", "p": 3},
    {"metric": "minkowski", "p": 1.5},
    {"metric": "minkowski", "p": 32},
    {"metric": "hamming"},
    {"metric": "mahalanobis"},
    {"metric": "bhattacharyya"},
]

Floats = NDArray[np.float64]


def name_metric(metric: dict[str, Any]) -> str:
    return "-".join(map(str, metric.values()))


def bhattacharyya(left: Floats, right: Floats) -> Floats:
    """Compute the distance of two rows, shape (d,) each, or the distances of all pairs: shapes (q, 1, d) and (n, d)."""
    shares = left / left.sum(axis=-1, keepdims=True) * (right / right.sum(axis=-1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(np.minimum(np.sqrt(shares).sum(axis=-1), 1)))


def find_distances(params: KnnParams, training: Floats, queries: Floats) -> Floats:
    match params.metric:
        case Metric.EUCLIDEAN:
            return np.asarray(cdist(queries, training, "euclidean"))
        case Metric.MANHATTAN:
            return np.asarray(cdist(queries, training, "cityblock"))
        case Metric.MINKOWSKI:
            return np.asarray(cdist(queries, training, "minkowski", p=params.p))
        case Metric.HAMMING:
            return np.asarray(cdist(queries, training, "hamming"))
        case Metric.MAHALANOBIS:
            inverse = np.linalg.inv(np.cov(training, rowvar=False))
            return np.asarray(cdist(queries, training, "mahalanobis", VI=inverse))
        case Metric.BHATTACHARYYA:
            return bhattacharyya(queries[:, None], training)


def find_neighbours(distances: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the indices and the distances of the k nearest rows; rows at equal distance are sorted by index."""
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(distances, rows, axis=1)


def predict(params: KnnParams, labels: NDArray[Any], distances: Floats) -> float:
    """Predict the label of one query from the labels and the distances of its neighbours, shape (k,) each."""
    weights = [1.0] * len(labels)
    if params.weights is Weights.DISTANCE:
        weights = [float(d == 0) for d in distances] if 0 in distances else [1 / d for d in distances]
    if params.task is Task.REGRESSION:
        return float(sum(w * y for w, y in zip(weights, labels, strict=True)) / sum(weights))
    votes = {int(c): 0.0 for c in sorted(labels)}
    for weight, label in zip(weights, labels, strict=True):
        votes[int(label)] += weight
    return float(max(votes, key=lambda c: votes[c]))
