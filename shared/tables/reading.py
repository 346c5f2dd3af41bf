"""Reading a table from a file of any of the formats, and finding out what is in it.

Both do the same detection, so that a table that was inspected is read as it was described. These functions use memory
and time in proportion to the file, and parse what anyone may have sent, so no process that serves others may call them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.tables.arff import is_arff, read_arff
from shared.tables.bad_cells import BadCells, show
from shared.tables.columns import NumeralRules, TypedColumn, find_types
from shared.tables.content import PARQUET, ZIP, Content, read_content
from shared.tables.delimited import TextFile, read_delimited
from shared.tables.errors import TableError
from shared.tables.facts import DECIMAL_MARKS, Limits, ReadOptions, TableFacts
from shared.tables.parquet import read_parquet
from shared.tables.scatter import make_scatter
from shared.tables.suggestions import suggest
from shared.tables.summary import summarise
from shared.tables.table import Table
from shared.tables.xlsx import read_xlsx
from shared.texts import Text, text

Format = Literal["delimited", "xlsx", "parquet", "arff"]
MAX_SAMPLE_ROWS: Final = 10
# The options that a format has. The header of a format that always has one may be "true", as the facts say.
_OPTIONS: Final[dict[Format, frozenset[str]]] = {
    "delimited": frozenset({"header", "delimiter", "decimal", "encoding"}),
    "xlsx": frozenset({"header", "decimal", "sheet"}),
    "arff": frozenset({"encoding"}),
    "parquet": frozenset(),
}


@dataclass(frozen=True)
class _Loaded:
    """A table that was read, with what was detected: the fields of `TableFacts` that a format has."""

    format: Format
    columns: Sequence[TypedColumn]
    lines: NDArray[np.int64]
    unnamed: Sequence[bool]
    detected: dict[str, Any] = field(default_factory=dict)
    warnings: Sequence[Text] = ()


def read_table(path: Path, options: ReadOptions, limits: Limits) -> Table:
    """Read a table.

    Raises
    ------
    TableError
        The file cannot be read as a table. The error names the line or the column, and the remedy.
    """
    loaded = _load(path, options, limits)
    return Table([column.to_column() for column in loaded.columns], loaded.lines)


def inspect_table(path: Path, options: ReadOptions, limits: Limits) -> TableFacts:
    """Read a table, and find out what is in it.

    Raises
    ------
    TableError
        The file cannot be read as a table. The error names the line or the column, and the remedy.
    """
    loaded = _load(path, options, limits)
    facts = [summarise(column) for column in loaded.columns]
    suggested, warnings = suggest(loaded.columns, facts, loaded.unnamed)
    rows = zip(*(column.cells.head(MAX_SAMPLE_ROWS).fill_null("") for column in loaded.columns), strict=True)
    return TableFacts(
        format=loaded.format,
        columns=facts,
        rows=len(loaded.lines),
        suggested=suggested,
        warnings=[*loaded.warnings, *warnings],
        scatter=make_scatter(loaded.columns, facts, suggested),
        sample=[[show(cell) for cell in row] for row in rows],
        **loaded.detected,
    )


def _load(path: Path, options: ReadOptions, limits: Limits) -> _Loaded:
    """Read a file by the reader of its format; all bad cells end in one error."""
    if options.decimal not in {None, *DECIMAL_MARKS}:
        raise TableError(text("decimal-unknown", decimal=options.decimal))
    bad = BadCells()
    try:
        content = read_content(path, limits.bytes)
        loaded = _read_format(content, options, limits, bad)
    except MemoryError as error:
        raise TableError(text("memory-short")) from error
    bad.raise_error()
    loaded.detected["compressed"] = content.compressed
    return loaded


def _read_format(content: Content, options: ReadOptions, limits: Limits, bad: BadCells) -> _Loaded:
    if content.data.startswith(PARQUET):
        _check_options(options, "parquet")
        parquet = read_parquet(content, limits, bad)
        return _Loaded("parquet", parquet.columns, parquet.lines, [False] * len(parquet.columns))
    if content.data.startswith(ZIP):
        _check_options(options, "xlsx")
        return _load_xlsx(content, options, limits, bad)
    file = TextFile(content, options.encoding)
    if is_arff(file):
        _check_options(options, "arff")
        arff = read_arff(file, limits, bad)
        detected = {
            "encoding": file.encoding,
            "comment_lines": arff.comment_lines,
            "blank_lines": arff.blank_lines + arff.grid.blank_rows,
        }
        return _Loaded("arff", arff.columns, arff.grid.lines, arff.grid.unnamed, detected)
    _check_options(options, "delimited")
    return _load_delimited(file, options, limits, bad)


def _load_delimited(file: TextFile, options: ReadOptions, limits: Limits, bad: BadCells) -> _Loaded:
    grid, dialect, rows, warnings = read_delimited(file, file.sample(), options, limits, bad)
    rules = NumeralRules(options.decimal, dialect.delimiter)
    typing = find_types(grid.names, grid.columns, grid.lines, rules, bad)
    detected = {
        "delimiter": dialect.delimiter,
        "decimal": typing.decimal,
        "thousands": typing.thousands,
        "encoding": file.encoding,
        "header": grid.header,
        "comment_lines": rows.comment_lines,
        "blank_lines": rows.blank_lines + grid.blank_rows,
    }
    return _Loaded(
        "delimited", typing.columns, grid.lines, grid.unnamed, detected, [*warnings, *grid.warnings, *typing.warnings]
    )


def _load_xlsx(content: Content, options: ReadOptions, limits: Limits, bad: BadCells) -> _Loaded:
    sheet = read_xlsx(content, options, limits, bad)
    grid = sheet.grid
    typing = find_types(grid.names, grid.columns, grid.lines, NumeralRules(options.decimal, shared=False), bad)
    detected = {
        "decimal": typing.decimal,
        "thousands": typing.thousands,
        "header": grid.header,
        "sheet": sheet.name,
        "sheets": sheet.sheets,
        "blank_lines": grid.blank_rows,
    }
    return _Loaded("xlsx", typing.columns, grid.lines, grid.unnamed, detected, [*grid.warnings, *typing.warnings])


def _check_options(options: ReadOptions, file_format: Format) -> None:
    """Refuse an option that the format does not have, since the user expects it to change something."""
    for name in sorted(options.model_fields_set):
        value = getattr(options, name)
        if value is None or name in _OPTIONS[file_format] or (name == "header" and value is True):
            continue
        raise TableError(text("option-unused", option=name, format=file_format))
