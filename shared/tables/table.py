"""A table in memory: columns of numbers or texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.tables.facts import ColumnType


@dataclass(frozen=True)
class Column:
    """A column of n cells.

    Parameters
    ----------
    numbers
        The cells of a number, integer, boolean (0 and 1), date (days since 1970-01-01) or empty column: shape (n,),
        float64, NaN if missing. None for texts.
    texts
        The n cells of a text column, None if missing. None for other types.
    words
        The cells of a boolean column that stand for 0 and 1, as the file first has them. None for other types.
    """

    name: str
    type: ColumnType
    numbers: NDArray[np.float64] | None = None
    texts: Sequence[str | None] | None = None
    words: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Parameters
    ----------
    lines
        The file's own line, or the spreadsheet's own row, on which each row starts, counted from 1: shape (n,), int64.
        For Parquet, the number of the row.
    """

    columns: Sequence[Column]
    lines: NDArray[np.int64]
