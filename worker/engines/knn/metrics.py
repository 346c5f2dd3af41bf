"""For each metric, the function that lays out the data for the search."""

from collections.abc import Callable
from functools import partial
from typing import Final

from shared.kinds.knn.parameters import KnnParams, Metric
from worker.engines.knn import bhattacharyya, euclidean, hamming, mahalanobis, minkowski
from worker.engines.knn.space import Floats, Space

LAYOUTS: Final[dict[Metric, Callable[[Floats, Floats], Space]]] = {
    Metric.EUCLIDEAN: euclidean.build,
    Metric.MANHATTAN: partial(minkowski.build, p=1.0),
    Metric.HAMMING: hamming.build,
    Metric.MAHALANOBIS: mahalanobis.build,
    Metric.BHATTACHARYYA: bhattacharyya.build,
}


def build_space(params: KnnParams, training: Floats, queries: Floats) -> Space:
    """Lay out queries (q, d) and training rows (n, d), both scaled, for the job's metric.

    Raises
    ------
    JobFailedError
        The metric is not defined on these values.
    """
    if params.metric is not Metric.MINKOWSKI:
        return LAYOUTS[params.metric](training, queries)
    if params.p == 2:  # noqa: PLR2004 - the Euclidean distance, for which a matrix product ranks the rows
        return euclidean.build(training, queries)
    return minkowski.build(training, queries, params.p)
