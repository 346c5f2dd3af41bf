"""Hamming distance: the share of columns in which two rows differ.

The distinct values of each column are replaced by codes, which are whole numbers. A tile
either compares codes, or multiplies indicators: a column then has one indicator for each
possible code, which is 1 for the code of the row and 0 for all other codes.

Codes, indicators, and counts of equal or unequal columns are whole numbers that are small
enough to be exact in float32, so the error bound is zero.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.knn.space import Floats, Indices, Operand, Space

MAX_INDICATORS: Final = 16
"""Up to this average number of indicators per column, multiplying indicators is faster than comparing codes."""

Codes = NDArray[np.int32]


def build(training: Floats, queries: Floats) -> Space:
    """Lay out queries (q, d) and training rows (n, d) for the Hamming distance."""
    codes, counts = _encode(np.concatenate([training, queries]))
    row_codes, query_codes = codes[: len(training)], codes[len(training) :]
    width = len(counts)

    def measure(of: Indices, to: Indices) -> Floats:
        return np.asarray(np.count_nonzero(query_codes[of] != row_codes[to], axis=1) / width)

    exact = np.zeros(len(queries))
    if counts.sum() <= MAX_INDICATORS * width:  # the closeness will be the number of equal columns
        rows, query_operand = _indicate(row_codes, counts), _indicate(query_codes, counts)
        return Space(None, query_operand, rows, np.zeros(rows.shape[1], np.float32), exact, measure)
    # In a space of codes, the closeness is minus the number of unequal columns.
    rows, query_operand = row_codes.astype(np.float32), query_codes.astype(np.float32)
    return Space(0.0, query_operand, rows, np.full(width, -1, np.float32), exact, measure)


def _encode(table: Floats) -> tuple[Codes, NDArray[np.int64]]:
    """Give the distinct values of each column codes from 0; return the codes, and the number of codes per column."""
    codes = np.empty(table.shape, np.int32)
    counts = np.empty(table.shape[1], np.int64)
    for column in range(table.shape[1]):
        values, codes[:, column] = np.unique(table[:, column], return_inverse=True)
        counts[column] = len(values)
    return codes, counts


def _indicate(codes: Codes, counts: NDArray[np.int64]) -> Operand:
    """Turn codes into indicators, 0 or 1 for each possible code, shape (m, sum of counts).

    The inner product of the indicators of two rows is the number of equal columns.
    """
    indicators = np.zeros((len(codes), int(counts.sum())), np.float32)
    np.put_along_axis(indicators, codes + (np.cumsum(counts) - counts), 1, axis=1)
    return indicators
