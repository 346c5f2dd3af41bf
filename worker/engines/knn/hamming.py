"""Hamming distance: the share of columns in which two rows differ.

Values become codes, and counts of codes are small whole numbers, exact in
float32: there is no error to bound.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.knn.space import Floats, Indices, Operand, Space

MAX_INDICATORS: Final = 16
"""Indicators a column, on average, up to which their product beats counting unequal codes."""

Codes = NDArray[np.int32]


def build(training: Floats, queries: Floats) -> Space:
    """Lay out the Hamming distance of queries (q, d) to training rows (n, d)."""
    codes, counts = _encode(np.concatenate([training, queries]))
    row_codes, query_codes = codes[: len(training)], codes[len(training) :]
    width = len(counts)

    def measure(of: Indices, to: Indices) -> Floats:
        return np.asarray(np.count_nonzero(query_codes[of] != row_codes[to], axis=1) / width)

    exact = np.zeros(len(queries))
    if counts.sum() <= MAX_INDICATORS * width:  # closeness: equal columns
        rows, query_operand = _indicate(row_codes, counts), _indicate(query_codes, counts)
        return Space(None, query_operand, rows, np.zeros(rows.shape[1], np.float32), exact, measure)
    rows, query_operand = row_codes.astype(np.float32), query_codes.astype(np.float32)  # closeness: -unequal columns
    return Space(0.0, query_operand, rows, np.full(width, -1, np.float32), exact, measure)


def _encode(table: Floats) -> tuple[Codes, NDArray[np.int64]]:
    """Code the values of each column from 0; return the codes and how many each column has."""
    codes = np.empty(table.shape, np.int32)
    counts = np.empty(table.shape[1], np.int64)
    for column in range(table.shape[1]):
        values, codes[:, column] = np.unique(table[:, column], return_inverse=True)
        counts[column] = len(values)
    return codes, counts


def _indicate(codes: Codes, counts: NDArray[np.int64]) -> Operand:
    """Set a one for each code, shape (m, sum of counts): products count equal columns."""
    indicators = np.zeros((len(codes), int(counts.sum())), np.float32)
    np.put_along_axis(indicators, codes + (np.cumsum(counts) - counts), 1, axis=1)
    return indicators
