"""The types of columns, found from their cells.

A column is boolean if it has the two words of one pair of `_BOOLEANS` and nothing else. If it has one word only, it is
boolean if the word is ``true`` or ``false``; a ``T`` alone means other things, too, and is text. Other pairs of words,
such as ``yes`` and ``no``, are texts like ``male`` and ``female``, so that all of them have the same weight in a
distance. Zeros and ones stay integers. A column of whole numbers is of integers, whether they are written 3 or 3.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.tables.bad_cells import BadCells, show
from shared.tables.dates import find_dates
from shared.tables.errors import TableError
from shared.tables.facts import ColumnType
from shared.tables.missing import remove_missing
from shared.tables.numerals import Marks, Numerals, find_numerals
from shared.tables.table import Column
from shared.texts import Text, text

_BOOLEANS: Final = (("false", "true"), ("f", "t"))
_MAX_EXACT: Final = 2.0**53


@dataclass(frozen=True)
class TypedColumn:
    """A column whose type is known.

    Parameters
    ----------
    cells
        The cells as in the file, without blanks around them; null if missing.
    numbers, words
        As in `shared.tables.table.Column`.
    """

    name: str
    type: ColumnType
    cells: pl.Series
    numbers: NDArray[np.float64] | None = None
    words: tuple[str, str] | None = None

    def present(self) -> NDArray[np.float64]:
        """Return the numbers that are not missing; none for texts."""
        return np.empty(0) if self.numbers is None else self.numbers[~np.isnan(self.numbers)]

    def to_column(self) -> Column:
        """Return the column without polars."""
        texts = self.cells.to_list() if self.type is ColumnType.TEXT else None
        return Column(self.name, self.type, self.numbers, texts, self.words)


@dataclass(frozen=True)
class Typing:
    """The columns of a table with their types, and how their numbers were read.

    Parameters
    ----------
    decimal, thousands
        The marks of the numbers. The decimal mark is None if no number has one, or if the columns differ.
    """

    columns: Sequence[TypedColumn]
    decimal: str | None
    thousands: str | None
    warnings: Sequence[Text]


@dataclass(frozen=True)
class NumeralRules:
    """How the marks of numbers are decided; see `shared.tables.numerals`.

    Parameters
    ----------
    decimal
        The decimal mark that was set by hand.
    delimiter
        The delimiter of the file.
    shared
        Whether one program wrote all columns, so that a column tells how another one is read.
    """

    decimal: str | None = None
    delimiter: str | None = None
    shared: bool = True


def find_types(
    names: Sequence[str],
    columns: Sequence[pl.Series],
    lines: NDArray[np.int64],
    rules: NumeralRules,
    bad: BadCells,
) -> Typing:
    """Find the types of columns that are text in the file.

    Parameters
    ----------
    lines
        The line of each row.
    bad
        Receives the numbers that are infinite or out of range.

    Raises
    ------
    TableError
        The decimal mark that was set by hand contradicts a column.
    """
    warnings: list[Text] = []
    frame = remove_missing(pl.DataFrame({str(index): cells for index, cells in enumerate(columns)}))
    numerals = find_numerals(frame)
    decimal = rules.decimal or _find_shared_decimal(numerals, rules)
    decimals: set[str] = set()
    thousands = ""
    read: list[TypedColumn] = []
    for name, cells, column in zip(names, frame.iter_columns(), numerals, strict=True):
        if column is None:
            read.append(_find_type(name, cells, warnings))
            continue
        marks = column.choose(decimal)
        if marks is None and rules.decimal is not None:
            raise _contradiction(name, column, rules.decimal, lines)
        if marks is None or decimal is None:
            marks = column.guess(rules.delimiter)
            warnings.extend(_warn_of_guess(name, column, marks, rules))
        if column.has_marks:
            decimals.add(marks.decimal)
        thousands = thousands or marks.thousands[:1]
        read.append(read_numbers(name, column.cells, marks, lines, bad))
    return Typing(read, decimals.pop() if len(decimals) == 1 else None, thousands or None, warnings)


def read_numbers(name: str, cells: pl.Series, marks: Marks, lines: NDArray[np.int64], bad: BadCells) -> TypedColumn:
    """Read a column of numbers; what is infinite or not a number is a bad cell."""
    numbers = marks.convert(cells)
    present = cells.is_not_null().to_numpy()
    for row in np.flatnonzero(present & ~np.isfinite(numbers)).tolist():
        line = int(lines[row])
        bad.add(line, text("cell-not-finite", line=line, column=show(name), cell=show(str(cells[row]))))
    return TypedColumn(name, number_type(numbers), cells, numbers)


def number_type(numbers: NDArray[np.float64]) -> ColumnType:
    """Return whether numbers are integers, numbers, or all missing."""
    present = numbers[np.isfinite(numbers)]
    if not len(present):
        return ColumnType.EMPTY
    whole = (np.abs(present) < _MAX_EXACT).all() and (present == np.floor(present)).all()
    return ColumnType.INTEGER if whole else ColumnType.NUMBER


def find_words(name: str, cells: pl.Series) -> TypedColumn:
    """Return a column of words as booleans if it has the words of `_BOOLEANS`, otherwise as texts."""
    column = TypedColumn(name, ColumnType.TEXT, cells)
    different = cells.drop_nulls().unique(maintain_order=True)
    if not len(different):
        return _make_empty(name, cells)
    if len(different) > 2 * 2:
        return column  # two words in lower case, upper case and both have more spellings, but no file mixes them
    folded = set(different.str.to_lowercase().to_list())
    for pair in _BOOLEANS:
        if folded == set(pair) or (folded < set(pair) and pair == _BOOLEANS[0]):
            return _read_booleans(column, pair)
    return column


def _find_type(name: str, cells: pl.Series, warnings: list[Text]) -> TypedColumn:
    """Return a column that is not of numbers with its type."""
    if cells.null_count() == len(cells):
        return _make_empty(name, cells)
    dates = find_dates(cells)
    if dates is None:
        return find_words(name, cells)
    if dates.days is None:
        warnings.append(text("date-ambiguous", column=show(name), cell=show(cells.drop_nulls()[0])))
        return find_words(name, cells)
    return TypedColumn(name, ColumnType.DATE, cells, dates.days)


def _make_empty(name: str, cells: pl.Series) -> TypedColumn:
    return TypedColumn(name, ColumnType.EMPTY, cells, np.full(len(cells), np.nan))


def _read_booleans(column: TypedColumn, pair: tuple[str, str]) -> TypedColumn:
    folded = column.cells.str.to_lowercase()
    numbers = folded.replace_strict(pair, (0.0, 1.0), return_dtype=pl.Float64).fill_null(float("nan")).to_numpy()
    first = [next(iter(column.cells.filter(folded == word)), word) for word in pair]
    return replace(column, type=ColumnType.BOOLEAN, numbers=numbers, words=(first[0], first[1]))


def _find_shared_decimal(numerals: Sequence[Numerals | None], rules: NumeralRules) -> str | None:
    """Return the decimal mark of all columns that can be read with one only; None if they differ, or there are none."""
    if not rules.shared:
        return None
    marks = {column.ways[0].decimal for column in numerals if column and column.has_marks and not column.is_ambiguous}
    return marks.pop() if len(marks) == 1 else None


def _contradiction(name: str, column: Numerals, decimal: str, lines: NDArray[np.int64]) -> TableError:
    other = column.ways[0].decimal
    row, cell = column.find_first(other)
    line = int(lines[row])
    return TableError(
        text("decimal-wrong", column=show(name), line=line, cell=show(cell), decimal=decimal, other=other)
    )


def _warn_of_guess(name: str, column: Numerals, marks: Marks, rules: NumeralRules) -> list[Text]:
    """Warn of an ambiguous comma, and of an ambiguous point in a file with semicolons."""
    if not column.is_ambiguous:
        return []
    row, cell = column.find_first(",")
    if not cell and rules.delimiter == ";":
        row, cell = column.find_first(".")
    if not cell:
        return []
    number = float(marks.convert(column.cells.slice(row, 1))[0])
    return [text("decimal-ambiguous", column=show(name), cell=show(cell), number=number)]
