"""CSV files as text: rows of cells, and the first rows of a table for a form."""

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import RequestInvalidError
from shared.texts import text

UPLOAD: Final = "/params/dataset/upload"
PREVIEW_BYTES: Final = 2**18
_MAX_CELL_CHARS: Final = 2**17


@dataclass(frozen=True)
class Limits:
    """How large a table may be."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Preview:
    """The first rows of a table, as text.

    Parameters
    ----------
    columns
        The names of the columns; none if the first row alone is longer than what is read.
    rows
        The first rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def preview(path: Path, rows: int, columns: Sequence[str] | None = None, *, header: bool) -> Preview:
    """Read the first rows of a table, without blank lines; what follows them is not checked.

    Parameters
    ----------
    rows
        How many rows to read.
    columns
        The names of the columns, if the file has none.
    header
        Whether the first row has them, if they are not given.

    Raises
    ------
    RequestInvalidError
        The file is not a table, or no longer exists.
    """
    content = read_bytes(path, PREVIEW_BYTES + 1)
    whole = len(content) <= PREVIEW_BYTES
    filled = (row for row in _parse(content[:PREVIEW_BYTES], whole=whole) if any(cell.strip() for cell in row))
    lines = list(itertools.islice(filled, rows + 2))
    if not lines:
        raise RequestInvalidError.at(UPLOAD, text("table-empty"))
    if not whole:
        lines.pop()  # it may be incomplete
    if columns is None:
        columns = name_columns(lines[0], header=header) if lines else []
        lines = lines[1:] if header else lines
    return Preview(columns, lines[:rows])


def split_rows(content: bytes, limits: Limits) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, which must have equal lengths; blank lines at the end are skipped.

    Raises
    ------
    RequestInvalidError
        Names the line that is wrong.
    """
    width = 0
    blank = 0
    for line, row in enumerate(_parse(content), start=1):
        if not any(cell.strip() for cell in row):
            blank = blank or line
            continue
        if blank:
            raise RequestInvalidError.at(UPLOAD, text("table-blank-line", line=blank))
        if line > limits.rows + 1:  # one may be the header
            raise RequestInvalidError.at(UPLOAD, text("table-too-many-rows", max_rows=limits.rows))
        width = width or _check_width(len(row), limits)
        if len(row) != width:
            raise RequestInvalidError.at(UPLOAD, text("table-uneven", line=line, cells=len(row), width=width))
        yield row
    if not width:
        raise RequestInvalidError.at(UPLOAD, text("table-empty"))


def read_bytes(path: Path, max_bytes: int = -1) -> bytes:
    """Read a file, or its first bytes.

    Raises
    ------
    RequestInvalidError
        The file no longer exists.
    """
    try:
        with path.open("rb") as file:
            return file.read(max_bytes)
    except FileNotFoundError as error:
        raise RequestInvalidError.at(UPLOAD, text("table-file-gone")) from error


def name_columns(first: Sequence[str], *, header: bool) -> list[str]:
    """Name the columns by the first row, or by their positions."""
    return [name.strip() for name in first] if header else [f"column {index}" for index in range(len(first))]


def _parse(content: bytes, *, whole: bool = True) -> Iterator[list[str]]:
    # The limit applies to the whole process, and libraries set their own: set here, it is the same for every table.
    csv.field_size_limit(_MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(_decode(content, whole=whole), newline=""))
    try:
        yield from reader
    except csv.Error as error:
        raise RequestInvalidError.at(UPLOAD, text("table-not-csv", line=reader.line_num, error=str(error))) from error


def _check_width(width: int, limits: Limits) -> int:
    if width > limits.columns:
        raise RequestInvalidError.at(UPLOAD, text("table-too-many-columns", columns=width, max_columns=limits.columns))
    if width == 1:
        raise RequestInvalidError.at(UPLOAD, text("table-one-column"))
    return width


def _decode(content: bytes, *, whole: bool) -> str:
    """Decode a file, or its first bytes, the last character of which may be incomplete."""
    try:
        decoded = codecs.getincrementaldecoder("utf-8-sig")().decode(content, final=whole)
    except UnicodeDecodeError as error:
        raise RequestInvalidError.at(UPLOAD, text("table-not-utf8", position=error.start)) from error
    if "\0" in decoded:
        raise RequestInvalidError.at(UPLOAD, text("table-binary"))
    return decoded
