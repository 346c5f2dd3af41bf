"""ARFF, the format of Weka. Its attributes have types: nominal and string attributes stay text, booleans apart."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from shared.tables.bad_cells import BadCells, show
from shared.tables.columns import TypedColumn, find_words, read_numbers
from shared.tables.dates import find_dates
from shared.tables.delimited import TextFile, check_characters
from shared.tables.errors import TableError
from shared.tables.facts import ColumnType, Limits, name_column
from shared.tables.grid import Grid, GridBuilder, Row
from shared.tables.missing import remove_missing
from shared.tables.numerals import Marks
from shared.texts import text

_START: Final = re.compile(r"\s*@(relation|attribute)\b", re.IGNORECASE)
_QUOTED: Final = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ATTRIBUTE: Final = re.compile(rf"\s*@attribute\s+({_QUOTED}|\S+)\s*(.*)", re.IGNORECASE | re.DOTALL)
_CELL: Final = re.compile(rf"\s*({_QUOTED}|[^,\t]*?)\s*(,|\t|\Z)")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_MAX_COMMENT_LINES: Final = 5_000
_NUMBERS: Final = frozenset({"numeric", "real", "integer"})


@dataclass(frozen=True)
class ArffTable:
    """The columns of an ARFF file, its grid of cells, and the number of its comments."""

    columns: list[TypedColumn]
    grid: Grid
    comment_lines: int
    blank_lines: int


def is_arff(file: TextFile) -> bool:
    """Return whether a text is ARFF: the first line that is no comment declares a relation or an attribute."""
    for number, line in enumerate(file.lines()):
        if number > _MAX_COMMENT_LINES:
            break
        if line.strip() and not line.lstrip().startswith("%"):
            return _START.match(line) is not None
    return False


def read_arff(file: TextFile, limits: Limits, bad: BadCells) -> ArffTable:
    """Read an ARFF file.

    Raises
    ------
    TableError
        The file is not as ARFF must be, or has sparse rows or an attribute of another type.
    """
    reader = _Reader(file, bad)
    attributes = reader.read_attributes(limits)
    names = [name or name_column(index) for index, (name, _) in enumerate(attributes)]
    grid = GridBuilder(len(names), limits, bad).build(reader.read_rows(), names, header=None)
    columns = [
        _read_column(name, kind, cells, grid, bad)
        for name, (_, kind), cells in zip(names, attributes, grid.columns, strict=True)
    ]
    return ArffTable(columns, grid, reader.comment_lines, reader.blank_lines)


class _Reader:
    """Reads the lines of an ARFF file once: first the attributes, then the rows."""

    def __init__(self, file: TextFile, bad: BadCells) -> None:
        self._lines = self._number(file.lines())
        self._encoding = file.encoding
        self._bad = bad
        self.comment_lines = 0
        self.blank_lines = 0

    def read_attributes(self, limits: Limits) -> list[tuple[str, str]]:
        """Return the name and the type of each attribute, the type in lower case."""
        attributes: list[tuple[str, str]] = []
        for number, line in self._lines:
            word = line.split(maxsplit=1)[0].lower()
            match = _ATTRIBUTE.match(line)
            if word == "@data":
                return attributes
            if word == "@attribute" and match is not None:
                attributes.append((_unquote(match[1]), _find_kind(match[2].strip(), number)))
                if len(attributes) > limits.columns:
                    raise TableError(text("columns-too-many", columns=len(attributes), max_columns=limits.columns))
            elif word != "@relation":
                raise TableError(text("arff-line", line=number))
        raise TableError(text("arff-data-missing"))

    def read_rows(self) -> Iterator[Row]:
        """Yield the rows with their lines."""
        for number, line in self._lines:
            if line.startswith("{"):
                raise TableError(text("arff-sparse", line=number))
            if "'" in line or '"' in line:
                yield number, _split_quoted(line)
            else:
                yield number, line.replace("\t", ",").split(",")

    def _number(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        for number, raw in enumerate(lines, start=1):
            line = raw.strip()
            if not line:
                self.blank_lines += 1
            elif line.startswith("%"):
                self.comment_lines += 1
            else:
                yield number, check_characters(line, number, self._encoding, self._bad)


def _find_kind(declared: str, line: int) -> str:
    if declared.startswith("{"):
        return "nominal"
    kind = (declared.split(maxsplit=1) or [""])[0].lower()
    if kind in {*_NUMBERS, "string", "date"}:
        return kind
    raise TableError(text("arff-type", line=line, type=show(declared)))


def _split_quoted(line: str) -> list[str]:
    cells = []
    position = 0
    while match := _CELL.match(line, position):
        cells.append(_unquote(match[1]))
        position = match.end()
        if not match[2]:
            return cells
    return [*cells, line[position:]]  # a quote that does not end, or text after one


def _unquote(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
        return _ESCAPE.sub(r"\1", word[1:-1])
    return word


def _read_column(name: str, kind: str, cells: pl.Series, grid: Grid, bad: BadCells) -> TypedColumn:
    stripped = cells.str.strip_chars()
    present = stripped.set(stripped.is_in(["?", ""]), None)
    if kind in _NUMBERS:
        numbers = remove_missing(cells.to_frame("cells"))["cells"]
        return read_numbers(name, numbers, Marks("."), grid.lines, bad)
    dates = find_dates(present) if kind == "date" and present.null_count() < len(present) else None
    if dates is not None and dates.days is not None:
        return TypedColumn(name, ColumnType.DATE, present, dates.days)
    return find_words(name, present)
