"""Parquet files. Their columns have types; what is text in the file stays text, apart from the words of booleans."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.tables.bad_cells import BadCells, show
from shared.tables.columns import TypedColumn, find_words, number_type
from shared.tables.content import Content
from shared.tables.errors import TableError
from shared.tables.facts import ColumnType, Limits, name_column
from shared.tables.grid import check_rows, check_width
from shared.tables.missing import remove_missing
from shared.texts import text

_READABLE: Final = (pl.Boolean, pl.Date, pl.Datetime, pl.Duration, pl.Null)
_MICROSECONDS_PER_DAY: Final = 86_400 * 1_000_000


@dataclass(frozen=True)
class ParquetTable:
    """The columns of a Parquet file, and the numbers of its rows."""

    columns: list[TypedColumn]
    lines: NDArray[np.int64]


def read_parquet(content: Content, limits: Limits, bad: BadCells) -> ParquetTable:
    """Read a Parquet file.

    Raises
    ------
    TableError
        The file is damaged or too large, or a column has a type that is neither a number nor a text.
    """
    try:
        schema = pl.read_parquet_schema(io.BytesIO(content.data))
        check_width(len(schema), limits)
        for name, dtype in schema.items():
            _check_type(name, dtype)
        rows = int(pl.scan_parquet(io.BytesIO(content.data)).select(pl.len()).collect().item())
        check_rows(rows, len(schema), limits)
        frame = pl.read_parquet(io.BytesIO(content.data), use_pyarrow=False)
        text_bytes = sum(
            int(frame[name].cast(pl.String).str.len_bytes().sum()) for name in frame.columns if _is_text(schema[name])
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise TableError(text("parquet-damaged")) from error
    if text_bytes > limits.bytes:
        raise TableError(text("file-too-long", max_bytes=limits.bytes))
    lines = np.arange(1, rows + 1, dtype=np.int64)
    series = [frame[name].rechunk().alias(name or name_column(index)) for index, name in enumerate(frame.columns)]
    return ParquetTable([_read_column(cells, lines, bad) for cells in series], lines)


def _check_type(name: str, dtype: pl.DataType) -> None:
    if not isinstance(dtype, _READABLE) and not _is_text(dtype) and not dtype.is_numeric():
        code = "parquet-nested" if dtype.is_nested() else "parquet-type"
        raise TableError(text(code, column=show(name), type=show(str(dtype))))


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum))


def _read_column(cells: pl.Series, lines: NDArray[np.int64], bad: BadCells) -> TypedColumn:
    dtype = cells.dtype
    if _is_text(dtype):
        present = remove_missing(cells.cast(pl.String).to_frame())
        return find_words(cells.name, present[cells.name])
    if dtype.is_float():
        cells = cells.fill_nan(None)
    shown = cells.cast(pl.String)
    if dtype == pl.Boolean:
        numbers = cells.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        column_type = ColumnType.BOOLEAN if cells.null_count() < len(cells) else ColumnType.EMPTY
        words = ("false", "true") if column_type is ColumnType.BOOLEAN else None
        return TypedColumn(cells.name, column_type, shown, numbers, words)
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        days = _count_days(cells)
        column_type = ColumnType.DATE if cells.null_count() < len(cells) else ColumnType.EMPTY
        return TypedColumn(cells.name, column_type, shown, days)
    if dtype == pl.Duration:
        cells = cells.dt.total_microseconds() / _MICROSECONDS_PER_DAY
        shown = cells.cast(pl.String)
    numbers = cells.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    for row in np.flatnonzero(np.isinf(numbers)).tolist():
        line = int(lines[row])
        bad.add(line, text("cell-not-finite", line=line, column=show(cells.name), cell=show(str(shown[row]))))
    return TypedColumn(cells.name, number_type(numbers), shown, numbers)


def _count_days(cells: pl.Series) -> NDArray[np.float64]:
    if cells.dtype == pl.Date:
        return cells.cast(pl.Int32).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    microseconds = cells.dt.timestamp("us").cast(pl.Float64)
    return (microseconds / _MICROSECONDS_PER_DAY).fill_null(float("nan")).to_numpy()
