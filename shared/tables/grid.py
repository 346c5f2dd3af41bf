"""Rows of cells, collected as columns, with names for the columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.tables.bad_cells import BadCells, uneven
from shared.tables.errors import TableError
from shared.tables.facts import Limits, name_column
from shared.tables.header import SAMPLE_ROWS, has_header
from shared.texts import Text, text

Row = tuple[int, list[str]]
"""A row: its line in the file, and its cells."""
MAX_CELLS: Final = 2**25
"""How many cells a table may have, since each takes at least 16 bytes in memory."""
_BLOCK_CELLS: Final = 200_000
_MAX_NAME_CHARS: Final = 1_000
_MAX_TITLES: Final = 20
_MAX_SHOWN_CHARS: Final = 80


@dataclass(frozen=True)
class Grid:
    """A table whose cells are text.

    Parameters
    ----------
    names, unnamed
        The names of the columns, and which of them are not in the file.
    columns
        The cells of each column, as in the file.
    lines
        The line of each row in the file: shape (n,).
    header
        Whether the names are in the file.
    blank_rows
        How many rows without a filled cell were skipped.
    """

    names: Sequence[str]
    unnamed: Sequence[bool]
    columns: Sequence[pl.Series]
    lines: NDArray[np.int64]
    header: bool
    blank_rows: int
    warnings: Sequence[Text] = ()


class GridBuilder:
    """Collects rows.

    Rows are converted to columns in blocks, since as lists of strings they take five times as much memory.

    Parameters
    ----------
    width
        The number of cells of a row.
    limits
        The maximum size of the table.
    bad
        Receives the rows that have another number of cells.
    """

    def __init__(self, width: int, limits: Limits, bad: BadCells) -> None:
        check_width(width, limits)
        self._width = width
        self._limits = limits
        self._bad = bad
        self._max_rows = min(limits.rows, MAX_CELLS // width)
        self._warnings: list[Text] = []
        self.blank_rows = 0

    def build(self, rows: Iterable[Row], names: Sequence[str] | None, *, header: bool | None) -> Grid:
        """Read all rows.

        Parameters
        ----------
        names
            The names of the columns, if they are known.
        header
            Whether the first row contains the names; detected if None.

        Raises
        ------
        TableError
            There are no rows, or more than the limit, or a name is too long.
        """
        filled = self._skip_blank(rows)
        sample = list(islice(filled, 1 if names is not None else SAMPLE_ROWS + 1))
        if not sample:
            raise self._explain_absence()
        if names is None:
            self._skip_titles(sample, header=header)
            names = self._take_header(sample, header=header)
            header = names is not None
            names = [""] * self._width if names is None else names
        columns, lines = self._collect(chain(sample, filled))
        if not len(lines):
            raise self._explain_absence()
        if len(names) < self._width:
            # Row names, as R writes them, or delimiters at the end of all lines but the first.
            names = ["", *names] if (columns[-1] != "").any() else [*names, ""]
        return self._finish(names, columns, lines, header=bool(header))

    def _explain_absence(self) -> TableError:
        """Return the error of a table without rows; rows that cannot be read say more, such as an open quote."""
        self._bad.raise_error()
        return TableError(text("rows-missing"))

    def _skip_titles(self, sample: list[Row], *, header: bool | None) -> None:
        """Remove the rows above the names of the columns from the sample, such as the title of a report."""
        rows = [cells for _, cells in sample]
        count = self._count_titles(rows, has_names=header is not False)
        if header is True and count and not has_header(trim(rows[count], self._width), rows[count + 1 :]):
            return  # the first row is meant to be the names
        if count:
            first = ", ".join(cell.strip() for cell in sample[0][1] if cell.strip())
            self._warnings.append(text("titles-skipped", rows=count, first=first[:_MAX_SHOWN_CHARS]))
            del sample[:count]

    def _count_titles(self, rows: Sequence[list[str]], *, has_names: bool) -> int:
        """Count the first rows that have too few cells, or only their first cell filled above the names of columns.

        If a file is read again as it was detected, the same rows must be titles, so the first rule needs no names.
        """
        most = min(_MAX_TITLES, len(rows) - 2)
        short = next((index for index in range(most) if len(rows[index]) >= self._width - 1), max(most, 0))
        alone = next((index for index in range(short, most) if not _is_alone(rows[index])), max(most, short))
        if alone == short or not has_names:
            return short
        first, *others = (trim(row, self._width) for row in rows[alone:])
        return alone if all(map(str.strip, first)) and has_header(first, others) else short

    def _take_header(self, sample: list[Row], *, header: bool | None) -> list[str] | None:
        """Remove the first row from the sample if it contains the names, and return them.

        There may be one name less than there are columns. If it has another length, the row is bad, and has no names.
        """
        line, names = sample[0][0], trim(sample[0][1], self._width)
        short = len(names) == self._width - 1 and header is not False
        if not short and not self._decide_header([cells for _, cells in sample], header=header):
            return None
        del sample[0]
        if short or len(names) == self._width:
            return names
        self._bad.add(line, uneven(line, len(names), self._width))
        return [""] * self._width

    def _decide_header(self, rows: Sequence[list[str]], *, header: bool | None) -> bool:
        """Return whether the first row contains the names, and warn if that may surprise the user."""
        likely = has_header(trim(rows[0], self._width), rows[1:])
        if header is None and not likely:
            self._warnings.append(text("header-missing"))
        if header is False and likely:
            self._warnings.append(text("header-likely"))
        return likely if header is None else header

    def _skip_blank(self, rows: Iterable[Row]) -> Iterator[Row]:
        for line, cells in rows:
            if cells and (cells[0].strip() or any(map(str.strip, cells))):
                yield line, cells
            else:
                self.blank_rows += 1

    def _collect(self, rows: Iterator[Row]) -> tuple[list[pl.Series], NDArray[np.int64]]:
        """Convert rows to columns, and leave out those that have another number of cells."""
        blocks: list[list[pl.Series]] = [[pl.Series([], dtype=pl.String)] for _ in range(self._width)]
        lines: list[int] = []
        block: list[list[str]] = []
        block_rows = max(1, _BLOCK_CELLS // self._width)
        for seen, (line, row) in enumerate(rows):
            if seen == self._max_rows:
                raise _too_many_rows(self._limits, self._max_rows)
            cells = row if len(row) == self._width else trim(row, self._width)
            if len(cells) != self._width:
                self._bad.add(line, uneven(line, len(cells), self._width))
                continue
            lines.append(line)
            block.append(cells)
            if len(block) == block_rows:
                _append(blocks, block)
                block = []
        if block:
            _append(blocks, block)
        return [pl.concat(parts, rechunk=True) for parts in blocks], np.array(lines, np.int64)

    def _finish(
        self, names: Sequence[str], columns: Sequence[pl.Series], lines: NDArray[np.int64], *, header: bool
    ) -> Grid:
        """Name the columns, and drop those that have neither a name nor a filled cell."""
        clean = _clean_names(names)
        kept = [
            index
            for index, (name, cells) in enumerate(zip(clean, columns, strict=True))
            if name or (cells.str.strip_chars() != "").any()
        ]
        if len(kept) == 1:
            self._bad.raise_error()
            raise TableError(text("one-column"))
        for name in clean:
            if len(name) > _MAX_NAME_CHARS:
                raise TableError(text("name-too-long", start=name[:40], max_chars=_MAX_NAME_CHARS))
        return Grid(
            [clean[index] or name_column(position) for position, index in enumerate(kept)],
            [header and not clean[index] for index in kept],
            [columns[index] for index in kept],
            lines,
            header,
            self.blank_rows,
            self._warnings,
        )


def _clean_names(names: Sequence[str]) -> list[str]:
    """Remove blanks around names, and apostrophes if all names have them."""
    clean = [name.strip() for name in names]
    if all(len(name) > 1 and name[0] == name[-1] == "'" for name in clean):
        return [name[1:-1].strip() for name in clean]
    return clean


def check_width(width: int, limits: Limits) -> None:
    """Check the number of columns.

    Raises
    ------
    TableError
        There are too many, or too few for a label and an attribute.
    """
    if width > limits.columns:
        raise TableError(text("columns-too-many", columns=width, max_columns=limits.columns))
    if width <= 1:
        raise TableError(text("one-column"))


def _is_alone(cells: Sequence[str]) -> bool:
    """Return whether only the first cell of a row is filled."""
    return bool(cells[0].strip()) and not any(map(str.strip, cells[1:]))


def trim(cells: list[str], width: int) -> list[str]:
    """Remove empty cells at the end of a row that is too long."""
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def check_rows(rows: int, width: int, limits: Limits) -> None:
    """Check the number of rows.

    Raises
    ------
    TableError
        There are none or too many.
    """
    max_rows = min(limits.rows, MAX_CELLS // max(1, width))
    if rows > max_rows:
        raise _too_many_rows(limits, max_rows)
    if not rows:
        raise TableError(text("rows-missing"))


def _too_many_rows(limits: Limits, max_rows: int) -> TableError:
    if max_rows < limits.rows:
        return TableError(text("cells-too-many", max_cells=MAX_CELLS))
    return TableError(text("rows-too-many", max_rows=max_rows))


def _append(blocks: list[list[pl.Series]], rows: Sequence[Sequence[str]]) -> None:
    for parts, cells in zip(blocks, zip(*rows, strict=True), strict=True):
        parts.append(pl.Series(cells, dtype=pl.String))
