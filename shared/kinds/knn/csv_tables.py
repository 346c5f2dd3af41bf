"""Reads CSV files (commas, UTF-8) as tables, and describes what is in them."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np

from shared.errors import RequestInvalidError
from shared.kinds.knn import csv_files
from shared.kinds.knn.csv_files import UPLOAD, name_columns, read_bytes, split_rows
from shared.tables.facts import (
    MAX_EXAMPLES,
    MAX_VALUES,
    ColumnFacts,
    ColumnType,
    Limits,
    ReadOptions,
    Suggestion,
    TableFacts,
)
from shared.tables.table import Column, Table
from shared.texts import text

_MISSING = frozenset({"", "na", "n/a", "?", "null", "nan", "-"})


def read_table(path: Path, options: ReadOptions, limits: Limits) -> Table:
    """Read a table.

    Raises
    ------
    RequestInvalidError
        The file is not a table.
    """
    header = options.header is not False
    lines = split_rows(read_bytes(path), csv_files.Limits(limits.rows, limits.columns))
    first = next(lines)
    rows = [*(lines if header else chain([first], lines))]
    if not rows:
        raise RequestInvalidError.at(UPLOAD, text("table-without-rows"))
    cells = zip(*rows, strict=True)
    names = name_columns(first, header=header)
    columns = [_read_column(name, [cell.strip() for cell in column]) for name, column in zip(names, cells, strict=True)]
    return Table(columns, np.arange(len(rows)) + 1 + header)


def inspect_table(path: Path, options: ReadOptions, limits: Limits) -> TableFacts:
    """Describe a table."""
    table = read_table(path, options, limits)
    return TableFacts(
        format="delimited",
        columns=[_describe(column) for column in table.columns],
        rows=len(table.lines),
        delimiter=",",
        decimal=".",
        encoding="utf-8",
        header=options.header is not False,
        suggested=Suggestion(label=0, task=None),
    )


def _read_column(name: str, cells: list[str]) -> Column:
    present = [None if cell.lower() in _MISSING else cell for cell in cells]
    try:
        numbers = np.array([np.nan if cell is None else float(cell) for cell in present])
    except ValueError:
        return Column(name, ColumnType.TEXT, texts=present)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return Column(name, ColumnType.EMPTY, numbers=numbers)
    is_whole = bool((known == np.floor(known)).all())
    return Column(name, ColumnType.INTEGER if is_whole else ColumnType.NUMBER, numbers=numbers)


def _describe(column: Column) -> ColumnFacts:
    if column.texts is not None:
        counts = Counter(cell for cell in column.texts if cell is not None)
        return ColumnFacts(
            name=column.name,
            type=column.type,
            distinct=len(counts),
            missing=list(column.texts).count(None),
            examples=[*counts][:MAX_EXAMPLES],
            values=counts.most_common(MAX_VALUES),
        )
    numbers = np.empty(0) if column.numbers is None else column.numbers
    known = numbers[~np.isnan(numbers)]
    distinct = np.unique(known)
    return ColumnFacts(
        name=column.name,
        type=column.type,
        distinct=len(distinct),
        missing=len(numbers) - len(known),
        examples=[f"{value:g}" for value in distinct[:MAX_EXAMPLES].tolist()],
        min=float(known.min()) if len(known) else None,
        max=float(known.max()) if len(known) else None,
    )
