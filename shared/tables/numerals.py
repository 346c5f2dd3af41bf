"""Numbers as text: which mark is the decimal mark, and which groups the thousands.

A column can be read in one or more of these ways, each a pair of a decimal mark and a mark of thousands, if all of its
cells fit: ``1234.5``, ``1,234.5``, ``1 234.5``, ``1'234.5``, and the same with comma and point exchanged. If the ways
differ in the decimal mark, the cells alone do not decide: ``1,234`` is 1.234 with a decimal comma, and 1234 with a
comma between the thousands. It is decided in this order:

1. A decimal mark that was set by hand applies to all columns; a number that contradicts it is an error.
2. Columns that can be read with one decimal mark only are read with it. In a text file, which one program writes, they
   decide for the ambiguous columns, unless they contradict each other. A spreadsheet has no decimal mark of its own, so
   there each column is decided alone.
3. Otherwise ``1.234`` is a decimal fraction, since most programs write a point.
4. ``1,234`` is a decimal fraction if the column also has whole numbers from 1000 without a mark; it is a thousand if
   the column has smaller whole numbers without a mark, or if the file is not delimited by semicolons, which stand in
   files whose decimal mark is the comma. A warning says how it was read.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

_EXPONENT: Final = r"([eE][+-]?[0-9]+)?"
_BLANKS: Final = " \u00a0\u2009\u202f"
_APOSTROPHES: Final = "'\u2019"
_FIRST: Final = 50
_NUMBER_START: Final = re.compile(r"[+-]?([.,]?[0-9]|inf)", re.IGNORECASE)
_INFINITE: Final = r"(?i)^[+-]?inf(inity)?$"


@dataclass(frozen=True)
class Marks:
    """A decimal mark, and the characters that group thousands; empty if thousands are not grouped."""

    decimal: str
    thousands: str = ""

    @property
    def pattern(self) -> str:
        """A regular expression for the numbers that are written with these marks."""
        point = "\\" + self.decimal
        whole = r"[0-9]+"
        if self.thousands:
            whole = rf"([0-9]+|[1-9][0-9]{{0,2}}([{self.thousands}][0-9]{{3}})+)"
        return rf"^[+-]?({whole}({point}[0-9]*)?|{point}[0-9]+){_EXPONENT}$"

    def convert(self, cells: pl.Series) -> NDArray[np.float64]:
        """Convert numbers to float64, NaN if missing; other cells are NaN, too, and numbers out of range infinite."""
        for mark in self.thousands:
            cells = cells.str.replace_all(mark, "", literal=True)
        if self.decimal != ".":
            cells = cells.str.replace(self.decimal, ".", literal=True)
        return cells.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()


_WAYS: Final = (
    *(Marks("."), Marks(",")),
    *(Marks(".", ","), Marks(",", ".")),
    *(Marks(decimal, thousands) for thousands in (_BLANKS, _APOSTROPHES) for decimal in ".,"),
)


@dataclass(frozen=True)
class Numerals:
    """A column of numbers as text, and the ways in which it can be read.

    Parameters
    ----------
    cells
        The cells, null if missing.
    ways
        The ways that fit all cells, the simplest first.
    has_marks
        Whether a cell has a point or a comma, so that the decimal mark matters.
    """

    cells: pl.Series
    ways: Sequence[Marks]
    has_marks: bool

    @property
    def is_ambiguous(self) -> bool:
        """Whether the column can be read with either decimal mark, to different numbers."""
        return self.has_marks and len({way.decimal for way in self.ways}) > 1

    def choose(self, decimal: str | None) -> Marks | None:
        """Return the simplest way to read the column with this decimal mark, or with any; None if there is none."""
        return next((way for way in self.ways if decimal in {None, way.decimal}), None)

    def guess(self, delimiter: str | None) -> Marks:
        """Return the most likely way to read the column; see the module."""
        if not self.is_ambiguous or not self.find_first(",")[1]:
            return self.ways[0]
        unmarked = self.cells.filter(~self.cells.str.contains(",", literal=True)).cast(pl.Float64, strict=False).abs()
        if len(unmarked):
            return self.choose("," if (unmarked >= 1000).any() else ".") or self.ways[0]  # noqa: PLR2004 - thousand
        return self.choose("," if delimiter == ";" else ".") or self.ways[0]

    def find_first(self, mark: str) -> tuple[int, str]:
        """Return the row and the text of the first cell with a mark; the text is empty if there is none."""
        found = self.cells.str.contains(mark, literal=True).fill_null(value=False)
        row = int(found.arg_max() or 0)
        return (row, str(self.cells[row])) if found.any() else (0, "")


def find_numerals(frame: pl.DataFrame) -> list[Numerals | None]:
    """Return for each column how it can be read as numbers; None if it cannot.

    Infinite numbers, in words or out of the range of float64, belong to a column of numbers, since they are errors in
    it and no texts.

    Parameters
    ----------
    frame
        The columns as texts, null if missing.
    """
    read = frame.select(pl.all().cast(pl.Float64, strict=False))
    whole = {name for name in frame.columns if frame[name].null_count() == read[name].null_count() < len(frame)}
    has_point = _test(frame, whole, lambda cells: cells.str.contains(".", literal=True).any())
    # Reading 1.234 as a thousand is possible only if all cells with a point are like it.
    grouped = _test(frame, has_point, lambda cells: cells.str.contains(Marks(",", ".").pattern).all())
    found: list[Numerals | None] = []
    for name in frame.columns:
        if name not in whole:
            found.append(_find_unusual(frame[name]))
            continue
        other = [] if name in has_point else [Marks(",")]
        ways = [Marks("."), *other, *([Marks(",", ".")] if name in grouped else [])]
        found.append(Numerals(frame[name], ways, name in has_point))
    return found


def _test(frame: pl.DataFrame, names: Collection[str], test: Callable[[pl.Expr], pl.Expr]) -> set[str]:
    """Return the names of the columns that pass a test."""
    if not names:
        return set()
    passed = frame.select([test(pl.col(name)).alias(name) for name in names])
    return {name for name, result in zip(passed.columns, passed.row(0), strict=True) if result}


def _find_unusual(cells: pl.Series) -> Numerals | None:
    """Return how numbers can be read that are not written 1234.5; None for texts."""
    present = cells.drop_nulls()
    if not len(present) or not all(_NUMBER_START.match(cell) for cell in present.head(_FIRST)):
        return None
    finite = present.filter(~present.str.contains(_INFINITE))
    if not len(finite):
        return None
    # A way with a mark of thousands differs from a simple one only if a cell has the mark.
    ways = [way for way in _WAYS if not way.thousands or _contains(finite, way.thousands)]
    fitting = tuple(way for way in ways if finite.str.contains(way.pattern).all())
    return Numerals(cells, fitting, _contains(finite, ".,")) if fitting else None


def _contains(cells: pl.Series, characters: str) -> bool:
    return bool(cells.str.contains(f"[{characters}]").any())
