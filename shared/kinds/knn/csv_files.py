"""CSV files as text: rows of cells, and the beginning of a table as a form shows it."""

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import RequestInvalidError

UPLOAD: Final = "/params/dataset/upload"
PREVIEW_BYTES: Final = 2**18
_MAX_CELL_CHARS: Final = 2**17
_EMPTY: Final = "the file is empty; upload a table with a row per sample"


@dataclass(frozen=True)
class Limits:
    """How large a table may be."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Preview:
    """The beginning of a table, as text.

    Parameters
    ----------
    columns
        Their names; none where the first row alone is longer than what is read.
    rows
        The first ones.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def preview(path: Path, rows: int, columns: Sequence[str] | None = None, *, header: bool) -> Preview:
    """Read the beginning of a table, whatever stands further down; blank lines are left out.

    Parameters
    ----------
    rows
        How many to read.
    columns
        Their names, where the file has none.
    header
        Whether the first row has them, where they are not given.

    Raises
    ------
    RequestInvalidError
        This is no table, or it is gone.
    """
    content = read_bytes(path, PREVIEW_BYTES + 1)
    whole = len(content) <= PREVIEW_BYTES
    filled = (row for row in _parse(content[:PREVIEW_BYTES], whole=whole) if any(cell.strip() for cell in row))
    lines = list(itertools.islice(filled, rows + 2))
    if not lines:
        raise RequestInvalidError.at(UPLOAD, _EMPTY)
    if not whole:
        lines.pop()  # the cut may have gone through it
    if columns is None:
        columns = name_columns(lines[0], header=header) if lines else []
        lines = lines[1:] if header else lines
    return Preview(columns, lines[:rows])


def split_rows(content: bytes, limits: Limits) -> Iterator[list[str]]:
    """Split a CSV file into rows of equal length, one by one; blank lines at the end are left out.

    Raises
    ------
    RequestInvalidError
        Naming the line that is amiss.
    """
    width = 0
    blank = 0
    for line, row in enumerate(_parse(content), start=1):
        if not any(cell.strip() for cell in row):
            blank = blank or line
            continue
        if blank:
            raise RequestInvalidError.at(UPLOAD, f"line {blank} is blank, and rows follow; take it out")
        if line > limits.rows + 1:  # one may be the header
            raise RequestInvalidError.at(UPLOAD, f"the table has more than {limits.rows} rows; upload fewer")
        width = width or _check_width(len(row), limits)
        if len(row) != width:
            raise RequestInvalidError.at(
                UPLOAD, f"line {line} has {len(row)} cells where line 1 has {width}; make them equal"
            )
        yield row
    if not width:
        raise RequestInvalidError.at(UPLOAD, _EMPTY)


def read_bytes(path: Path, max_bytes: int = -1) -> bytes:
    """Read a file, or its beginning.

    Raises
    ------
    RequestInvalidError
        It is gone.
    """
    try:
        with path.open("rb") as file:
            return file.read(max_bytes)
    except FileNotFoundError as error:
        raise RequestInvalidError.at(UPLOAD, "the file is no longer here; upload it again") from error


def name_columns(first: Sequence[str], *, header: bool) -> list[str]:
    """Name the columns by the first row, or by their places."""
    return [name.strip() for name in first] if header else [f"column {index}" for index in range(len(first))]


def _parse(content: bytes, *, whole: bool = True) -> Iterator[list[str]]:
    # The limit is the whole process's, and libraries set their own: what is a table must not depend on them.
    csv.field_size_limit(_MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(_decode(content, whole=whole), newline=""))
    try:
        yield from reader
    except csv.Error as error:
        raise RequestInvalidError.at(UPLOAD, f"line {reader.line_num} is not CSV: {error}") from error


def _check_width(width: int, limits: Limits) -> int:
    if width > limits.columns:
        raise RequestInvalidError.at(UPLOAD, f"the table has {width} columns, more than {limits.columns}; upload fewer")
    if width == 1:
        raise RequestInvalidError.at(
            UPLOAD, "the table has one column; it needs a label and an attribute, separated by commas"
        )
    return width


def _decode(content: bytes, *, whole: bool) -> str:
    """Decode a file, or its beginning, whose last letter may be incomplete."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(content, final=whole)
    except UnicodeDecodeError as error:
        raise RequestInvalidError.at(
            UPLOAD, f"the file is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    if "\0" in text:
        raise RequestInvalidError.at(UPLOAD, "the file is binary, not a table; upload comma-separated text")
    return text
