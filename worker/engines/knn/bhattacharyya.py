"""Bhattacharyya distance: -ln of the overlap Σ √(p q) of two rows p and q, which are read as distributions.

The closeness is the overlap: the inner product of the square roots of p and q,
which is at most one. The two operands of a tile are rounded once each.
Multiplying and adding d terms causes d further roundings. So the error of the
closeness is at most gamma_(d+2) (see `space.bound_roundings`), plus what is lost
by underflow. The code uses slightly larger bounds.
"""

import numpy as np

from shared.errors import JobFailedError
from shared.texts import text
from worker.engines.knn.space import SMALLEST_32, UNIT_32, UNIT_64, Floats, Indices, Space, bound_roundings


def build(training: Floats, queries: Floats) -> Space:
    """Lay out queries (q, d) and training rows (n, d) for the Bhattacharyya distance.

    Raises
    ------
    JobFailedError
        A row or a query is not a distribution, because it has a negative value or only zeros.
    """
    row_roots, query_roots = _find_roots(training), _find_roots(queries)
    width = training.shape[1]
    error = bound_roundings(width + 4, UNIT_32) + bound_roundings(width + 8, UNIT_64) + (3 * width + 4) * SMALLEST_32

    def measure(of: Indices, to: Indices) -> Floats:
        overlap = np.einsum("ij,ij->i", query_roots[of], row_roots[to])
        with np.errstate(divide="ignore"):  # rows without overlap are infinitely far apart
            return np.asarray(np.abs(np.log(np.minimum(overlap, 1))))

    return Space(
        order=None,
        queries=query_roots.astype(np.float32),
        rows=row_roots.astype(np.float32),
        pad=np.zeros(width, np.float32),
        error=np.full(len(queries), error),
        measure=measure,
    )


def _find_roots(table: Floats) -> Floats:
    """Divide rows (m, d) by their sums, and return the square roots of the quotients."""
    largest = table.max(axis=1, keepdims=True)
    if table.min() < 0 or largest.min() == 0:
        raise JobFailedError(
            "negative-values",
            text("bhattacharyya-scaled-rows"),
        )
    shares = table / largest  # divided before summing, so that sums of huge or tiny values stay in range
    return np.asarray(np.sqrt(shares / shares.sum(axis=1, keepdims=True)))
