"""Text files with delimiters, read line by line."""

import csv
import io
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from shared.tables.bad_cells import BadCells
from shared.tables.content import Content
from shared.tables.dialect import BLANKS, COMMENT_SIGNS, Dialect, find_dialect, read_sep
from shared.tables.encodings import ERRORS, UNDECODABLE, find_encoding, is_guessed, open_codec
from shared.tables.errors import TableError
from shared.tables.facts import Limits, ReadOptions
from shared.tables.grid import Grid, GridBuilder, Row
from shared.texts import Text, text

MAX_LINE_CHARS: Final = 2**22
MAX_CELL_CHARS: Final = 2**17
_SAMPLE_CHARS: Final = 2**18
_SAMPLE_LINES: Final = 300
_MIN_SAMPLE_LINES: Final = 20
_MAX_CONTROL_SHARE: Final = 0.02
_BLANK_SEPARATED: Final = re.compile(r'"((?:[^"]|"")*)"|(\S+)')


class TextFile:
    """The lines of a text file. A line ends with a line feed, a carriage return, or both, also within quotes.

    Parameters
    ----------
    content
        The bytes of the file.
    encoding
        The wanted encoding, or None.
    """

    def __init__(self, content: Content, encoding: str | None) -> None:
        self.encoding = find_encoding(content.data, encoding)
        self.encoding_guessed = encoding is None and is_guessed(self.encoding)
        self._data = content.data

    def lines(self) -> Iterator[str]:
        """Yield the lines, with their ends.

        Raises
        ------
        TableError
            A line is too long.
        """
        file = io.TextIOWrapper(io.BytesIO(self._data), open_codec(self.encoding), ERRORS, newline="")
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_CHARS + 1), ""), start=1):
            if len(line) > MAX_LINE_CHARS:
                raise TableError(text("line-too-long", line=number, max_chars=MAX_LINE_CHARS))
            yield line

    def sample(self) -> list[str]:
        """Return the first lines that are not blank, without their ends. Only some of them begin as comments do.

        Raises
        ------
        TableError
            The file is binary, or blank.
        """
        sample: list[str] = []
        chars = comments = 0
        for line in self.lines():
            comments += line.startswith(COMMENT_SIGNS)
            if not line.strip() or (line.startswith(COMMENT_SIGNS) and comments > _SAMPLE_LINES):
                continue
            sample.append(line.rstrip("\r\n"))
            chars += len(line)
            rows = len(sample) - min(comments, _SAMPLE_LINES)
            if rows >= _SAMPLE_LINES or (chars > _SAMPLE_CHARS and rows >= _MIN_SAMPLE_LINES):
                break
        if not sample:
            raise TableError(text("file-empty"))
        control = sum(sum(char < " " and char != "\t" for char in line) + line.count(UNDECODABLE) for line in sample)
        if control > _MAX_CONTROL_SHARE * chars:
            raise TableError(text("file-binary"))
        return sample


class DelimitedRows:
    """Splits the lines of a file into rows of cells.

    Parameters
    ----------
    file
        The file.
    dialect
        How its lines are divided.
    bad
        Receives the lines with undecodable bytes, NUL, or quotes that do not end.
    skip_first
        Whether the first line that is not blank is no row.
    """

    def __init__(self, file: TextFile, dialect: Dialect, bad: BadCells, *, skip_first: bool) -> None:
        self._file = file
        self._dialect = dialect
        self._skip_next = skip_first
        self._bad = bad
        self._line = 0
        self._row_starts = True
        self._first_line = 0
        self.comment_lines = 0
        self.blank_lines = 0

    def __iter__(self) -> Iterator[Row]:
        """Yield each row with the line on which it starts."""
        # The csv module has one limit of the length of a cell for the whole process, and libraries can change it.
        csv.field_size_limit(MAX_CELL_CHARS)
        delimiter = self._dialect.delimiter
        if delimiter == BLANKS:
            reader = self._split_at_blanks()
        else:
            reader = csv.reader(self._feed(), delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                self._row_starts = True
                yield self._first_line, row
        except csv.Error:
            self._bad.add(self._first_line, text("cell-too-long", line=self._first_line, max_chars=MAX_CELL_CHARS))

    def _feed(self) -> Iterator[str]:
        """Yield the lines that belong to rows. Within quotes, a comment or a blank line is part of a cell."""
        for line in self._file.lines():
            self._line += 1
            if self._row_starts:
                if not line.strip():
                    self.blank_lines += 1
                    continue
                if self._skip_next:
                    self._skip_next = False
                    continue
                if line.startswith(self._dialect.comments):
                    self.comment_lines += 1
                    continue
                self._row_starts = False
                self._first_line = self._line
            if "\0" in line or UNDECODABLE in line:
                yield check_characters(line, self._line, self._file.encoding, self._bad)
            else:
                yield line
        if not self._row_starts:
            self._bad.add(self._first_line, text("quote-open", line=self._first_line))

    def _split_at_blanks(self) -> Iterator[list[str]]:
        """Split lines at runs of blanks and tabs outside quotes."""
        record = ""
        for line in self._feed():
            record += line
            if record.count('"') % 2 == 0 or len(record) > MAX_CELL_CHARS:
                yield _split_record(record)
                record = ""
        if record:
            yield _split_record(record)


def check_characters(line: str, number: int, encoding: str, bad: BadCells) -> str:
    """Add a line to the bad cells if it has undecodable bytes or NUL, and return it with a valid character for them."""
    if "\0" in line:
        bad.add(number, text("line-nul", line=number))
    if UNDECODABLE in line:
        bad.add(number, text("line-undecodable", line=number, encoding=encoding))
        return line.replace(UNDECODABLE, "\ufffd")
    return line


def _split_record(record: str) -> list[str]:
    if '"' not in record:
        return record.split()
    return [word or quoted.replace('""', '"') for quoted, word in _BLANK_SEPARATED.findall(record)]


def read_delimited(
    file: TextFile, sample: list[str], options: ReadOptions, limits: Limits, bad: BadCells
) -> tuple[Grid, Dialect, DelimitedRows, list[Text]]:
    """Read a text file with delimiters.

    Parameters
    ----------
    sample
        The first lines of the file.
    options, limits
        How the file is read, and its maximum size.
    bad
        Receives the places that cannot be read.

    Raises
    ------
    TableError
        The file cannot be read as a table.
    """
    named = read_sep(sample[0])
    dialect = find_dialect(sample[1:] if named else sample, options.delimiter or named)
    rows = DelimitedRows(file, dialect, bad, skip_first=named is not None)
    grid = GridBuilder(dialect.width, limits, bad).build(rows, None, header=options.header)
    warnings = [text("encoding-guessed", encoding=file.encoding)] if file.encoding_guessed else []
    return grid, dialect, rows, warnings
