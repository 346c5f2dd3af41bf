"""Reads the first rows of CSV files as text, for the preview on a form."""

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
class Preview:
    """The first rows of a table, as text.

    Parameters
    ----------
    columns
        The names of the columns; empty if the first row is longer than the part of the file that the preview reads.
    rows
        The first rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def preview(path: Path, rows: int, columns: Sequence[str] | None = None, *, header: bool) -> Preview:
    """Read the first rows of a table, and skip blank lines. The rest of the file is not checked.

    Parameters
    ----------
    rows
        How many rows to read.
    columns
        The names of the columns, if the file does not contain them.
    header
        Whether the first row contains the names of the columns; not used if ``columns`` is given.

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
        lines.pop()  # the last line may be incomplete
    if columns is None:
        columns = name_columns(lines[0], header=header) if lines else []
        lines = lines[1:] if header else lines
    return Preview(columns, lines[:rows])


def read_bytes(path: Path, max_bytes: int = -1) -> bytes:
    """Read a file, or only its first ``max_bytes`` bytes.

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
    """Return the names of the columns: the cells of the header, or ``column 0``, ``column 1`` … without a header."""
    return [name.strip() for name in first] if header else [f"column {index}" for index in range(len(first))]


def _parse(content: bytes, *, whole: bool = True) -> Iterator[list[str]]:
    # The csv module has one limit of the length of a cell for the whole process, and libraries can change this limit.
    # The limit is set again here, so that every table has the same limit.
    csv.field_size_limit(_MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(_decode(content, whole=whole), newline=""))
    try:
        yield from reader
    except csv.Error as error:
        raise RequestInvalidError.at(UPLOAD, text("table-not-csv", line=reader.line_num, error=str(error))) from error


def _decode(content: bytes, *, whole: bool) -> str:
    """Decode a file or, if ``whole`` is false, the first part of a file, without an incomplete last character."""
    try:
        decoded = codecs.getincrementaldecoder("utf-8-sig")().decode(content, final=whole)
    except UnicodeDecodeError as error:
        raise RequestInvalidError.at(UPLOAD, text("table-not-utf8", position=error.start)) from error
    if "\0" in decoded:
        raise RequestInvalidError.at(UPLOAD, text("table-binary"))
    return decoded
