"""Euclidean distance as an inner product, so that a matrix product can rank rows.

Let q be a query and x a row, from both of which the mean of the training part
was subtracted. Then

    |q - x|² = |q|² - (2 q·x - |x|²).

For one query, |q|² is the same for all rows, so the value in parentheses alone ranks
the rows. This value is the closeness. It is the inner product of (2q, -1) and (x, |x|²).

The error bound of the closeness has three parts.

The inner product in float32. It has d + 1 terms. In each term, both operands were
rounded from float64, which makes at most two roundings. Multiplying and adding, in any
order, causes d + 1 further roundings. Let gamma_n be the bound of n roundings (see
`bound_roundings`), and R the length of the longest row. Then the error is at most

    gamma_(d+4) (2 |q| R + R²) + (3d + 4) 2^-126 (1 + 2 |q| + 2 R),

where the second term is for operands or products that underflow.

The distance that is measured in float64. The error of its square is at most
gamma_(d+4) |q - x|² <= gamma_(d+4) (|q| + R)², plus what is lost by underflow. Here,
gamma has the unit of float64.

The lengths |q| and R. They are computed with errors as well. Multiplying the bound by
`ALLOWANCE` adds 1 %, which covers these errors and all products of small terms.
"""

from typing import Final

import numpy as np

from worker.engines.knn.space import (
    SMALLEST_32,
    SMALLEST_64,
    UNIT_32,
    UNIT_64,
    Floats,
    Operand,
    bound_roundings,
)

ALLOWANCE: Final = 1.01
ROWS_AT_ONCE: Final = 2_048
FARTHEST: Final = 2.0**120
"""The |x|² of the row that fills up tiles. This row is farther away than any real row; 2^120 is finite in float32."""


def lay_out(training: Floats, queries: Floats, centre: Floats, scale: float) -> tuple[Operand, Operand, Floats]:
    """Make the operands whose inner product ranks rows by Euclidean distance.

    Parameters
    ----------
    training, queries
        Shapes (n, d) and (q, d).
    centre
        Shape (d,), subtracted from every row and query.
    scale
        Power of two by which every row and query is multiplied.

    Returns
    -------
    tuple
        Query operand (q, d + 1), row operand (n, d + 1), both float32, and the
        error bound (q,) of their products.
    """
    query_operand, query_squares = _augment(queries, centre, scale)
    row_operand, row_squares = _augment(training, centre, scale)
    query_operand[:, :-1] *= 2
    query_operand[:, -1] = -1
    error = _bound_error(np.sqrt(query_squares), float(np.sqrt(row_squares.max())), training.shape[1], scale)
    return query_operand, row_operand, error


def make_pad(width: int) -> Operand:
    """Make a row to fill up tiles, shape (width,), which is farther from every query than any real row."""
    pad = np.zeros(width, np.float32)
    pad[-1] = FARTHEST
    return pad


def _augment(table: Floats, centre: Floats, scale: float) -> tuple[Operand, Floats]:
    """Move and scale rows, round them to float32, and append a column of squared lengths; also return these in float64.

    The rows are processed in groups, so that no second table in float64 is made.
    """
    count, width = table.shape
    operand = np.empty((count, width + 1), np.float32)
    squares = np.empty(count)
    for start in range(0, count, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        moved = (table[part] - centre) * scale
        squares[part] = np.einsum("ij,ij->i", moved, moved)
        operand[part, :-1] = moved
    operand[:, -1] = squares
    return operand, squares


def _bound_error(lengths: Floats, longest: float, width: int, scale: float) -> Floats:
    """Bound the error for queries of these lengths, shape (q,); the docstring of the module derives the bound."""
    tile = bound_roundings(width + 4, UNIT_32) * (2 * lengths + longest) * longest
    brute_force = bound_roundings(width + 4, UNIT_64) * np.square(lengths + longest)
    flushed = (3 * width + 4) * SMALLEST_32 * (1 + 2 * lengths + 2 * longest)
    flushed_64 = width * SMALLEST_64 * scale * scale
    return np.asarray(ALLOWANCE * (tile + brute_force + flushed + flushed_64))
