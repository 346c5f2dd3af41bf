"""Mahalanobis distance: the Euclidean distance after whitening.

Whitening makes the covariance of the training part the identity.
"""

import numpy as np

from worker.engines.knn import inner_product
from worker.engines.knn.space import UNIT_64, Floats, Indices, Space, bound_roundings, find_scale


def build(training: Floats, queries: Floats) -> Space:
    """Lay out queries (q, d) and training rows (n, d) for the Mahalanobis distance.

    Whitening multiplies a point x, from which the mean m was subtracted, by a
    matrix W. If the covariance is nearly singular, the float64 error of this
    product can be large compared with the whitened values. The error moves a
    whitened point by at most the length of the vector gamma |x - m| |W|, where the
    absolute values are taken element by element. So the distance of two whitened
    points changes by at most the sum of the moves of both points. ``measure``
    whitens the difference of two points, and its distance has an error of the same
    size. Let E be the sum of both errors, that is, twice the sum of the moves. Then
    the square of a distance D changes by at most 2 D E + E².
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
        # Not by matmul: BLAS may round equal rows differently, so that equal distances would become unequal.
        white = np.einsum("pi,ij->pj", queries[of] - training[to], whitening)
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", white, white)))

    return Space(None, query_operand, row_operand, inner_product.make_pad(row_operand.shape[1]), error, measure)


def find_whitening(training: Floats) -> Floats:
    """Find W such that W Wᵀ is the inverse of the covariance, or the pseudo-inverse if the covariance is singular.

    Parameters
    ----------
    training
        Shape (n, d). The covariance divides by n - 1, as `numpy.cov` does.

    Returns
    -------
    numpy.ndarray
        Shape (d, rank). If the matrix of correlations has full rank, W is computed
        from the correlations, so that columns of very different scale do not make
        the covariance look singular.
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
    """Find R such that R Rᵀ is the pseudo-inverse of ``matrix``: the covariances or correlations of ``count`` rows."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > max(count, len(values)) * np.finfo(np.float64).eps * values[-1]
    if not kept.any():
        return np.zeros((len(values), 1))
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _whiten(moved: Floats, whitening: Floats) -> tuple[Floats, Floats]:
    """Whiten rows (m, d); also return a bound, shape (m,), on how far rounding moved each row."""
    gamma = bound_roundings(moved.shape[1] + 4, UNIT_64)
    return moved @ whitening, gamma * np.linalg.norm(np.abs(moved) @ np.abs(whitening), axis=1)
