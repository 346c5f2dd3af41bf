"""Euclidean distance."""

import numpy as np

from worker.engines.knn import inner_product
from worker.engines.knn.space import Floats, Indices, Space, find_scale


def build(training: Floats, queries: Floats) -> Space:
    """Lay out queries (q, d) and training rows (n, d) for the Euclidean distance."""
    scale = find_scale(training, queries)
    query_operand, row_operand, error = inner_product.lay_out(training, queries, training.mean(axis=0), scale)

    def measure(of: Indices, to: Indices) -> Floats:
        difference = queries[of] - training[to]
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", difference, difference)))

    return Space(None, query_operand, row_operand, inner_product.make_pad(row_operand.shape[1]), error, measure)
