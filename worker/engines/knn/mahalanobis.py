"""Mahalanobis distance: Euclidean, after the training part's covariance is made the identity."""

import numpy as np

from worker.engines.knn import inner_product
from worker.engines.knn.space import UNIT_64, Floats, Indices, Space, bound_roundings, find_scale


def build(training: Floats, queries: Floats) -> Space:
    """Lay out the Mahalanobis distance of queries (q, d) to training rows (n, d).

    Whitening first is a product of its own, whose float64 error can be large
    compared with the whitened values if the covariance is nearly singular. It
    moves a point by at most gamma |x - m| |W|, taken element by element, and so
    a distance by the sum E of two such moves; the distances settled from
    differences carry as much. |q - x|² then changes by at most 2 |q - x| E + E².
    """
    centre = training.mean(axis=0)
    whitening = find_whitening(training)
    white_rows, row_drift = _whiten(training - centre, whitening)
    white_queries, query_drift = _whiten(queries - centre, whitening)
    scale = find_scale(white_rows, white_queries)
    origin = np.zeros(whitening.shape[1])
    query_operand, row_operand, error = inner_product.lay_out(white_rows, white_queries, origin, scale)
    reach = scale * (np.linalg.norm(white_queries, axis=1) + np.linalg.norm(white_rows, axis=1).max())
    drift = 2 * scale * (query_drift + row_drift.max())
    error = error + inner_product.ALLOWANCE * (2 * reach * drift + np.square(drift))

    def measure(of: Indices, to: Indices) -> Floats:
        # Not by matmul: BLAS may round equal rows differently, which would part ties.
        white = np.einsum("pi,ij->pj", queries[of] - training[to], whitening)
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", white, white)))

    return Space(None, query_operand, row_operand, inner_product.make_pad(row_operand.shape[1]), error, measure)


def find_whitening(training: Floats) -> Floats:
    """Find W with W Wᵀ = inverse of the covariance, or its pseudo-inverse if singular.

    Parameters
    ----------
    training
        Shape (n, d). The covariance divides by n - 1, as `numpy.cov` does.

    Returns
    -------
    numpy.ndarray
        Shape (d, rank). Of full rank, W comes from the correlations, so that
        columns of very different scale do not pass for a singular covariance.
    """
    count, width = training.shape
    if count == 1:
        return np.zeros((width, 1))
    covariance = np.cov(training, rowvar=False).reshape(width, width)
    deviations = np.sqrt(np.diag(covariance))
    if (np.ptp(training, axis=0) > 0).all():
        root = _find_inverse_root(covariance / np.outer(deviations, deviations), count)
        if root.shape[1] == width:
            return np.asarray(root / deviations[:, None])
    return _find_inverse_root(covariance, count)


def _find_inverse_root(matrix: Floats, count: int) -> Floats:
    """Find the root of the pseudo-inverse of a covariance of ``count`` rows."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > max(count, len(values)) * np.finfo(np.float64).eps * values[-1]
    if not kept.any():
        return np.zeros((len(values), 1))
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _whiten(moved: Floats, whitening: Floats) -> tuple[Floats, Floats]:
    """Whiten rows (m, d), and bound how far rounding moved each, shape (m,)."""
    gamma = bound_roundings(moved.shape[1] + 4, UNIT_64)
    return moved @ whitening, gamma * np.linalg.norm(np.abs(moved) @ np.abs(whitening), axis=1)
