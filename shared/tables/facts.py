"""What an inspection finds in a table, stored as JSON with the upload, and the options with which a table is read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.texts import Text

DELIMITERS: Final = (",", ";", "\t", "|", " ")
"""The delimiters that can be detected or chosen. The blank stands for a run of blanks and tabs."""
ENCODINGS: Final = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1", "gb18030")
"""The encodings that can be detected or chosen. A byte order mark at the start of the file is never content."""
DECIMAL_MARKS: Final = (".", ",")
MAX_EXAMPLES: Final = 5
MAX_VALUES: Final = 31
"""How many of the most frequent values are listed: one more than one-hot encoding takes."""
BINS: Final = 20
PLACES: Final = 100
"""How many places a scatter plot has in each direction, less one."""


class ColumnType(StrEnum):
    """What the cells of a column are. A column that has no cells but missing ones is empty."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATE = "date"
    TEXT = "text"
    EMPTY = "empty"


class Task(StrEnum):
    """What a label is good for."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Reason(StrEnum):
    """Why a column is left out by default; also the code of the sentence, with the value ``column``."""

    ROW_NUMBERS = "row-numbers"  # 0 … n-1 or 1 … n in the order of the file
    UNNAMED = "unnamed"  # a column of row names: unnamed or with a name for indices, and all values differ
    NEARLY_UNIQUE_TEXT = "nearly-unique-text"  # differs in over 95 % of the rows
    CONSTANT = "constant"
    EMPTY = "empty"


def name_column(index: int) -> str:
    """Return the name of a column that has none in its file."""
    return f"column {index}"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ColumnFacts(_Facts):
    """What an inspection finds in one column.

    Parameters
    ----------
    name
        The name as in the header, without blanks around it; ``column 0``, ``column 1`` … without a header.
    distinct, missing
        The number of different values, and of missing cells.
    examples
        The first different cells as they are in the file.
    min, max, mean, spread
        Of numbers, integers and dates (in days since 1970-01-01); the spread is the standard deviation.
    values
        Of texts and booleans: the most frequent cells with their counts, most frequent first. Of integers with at most
        `MAX_VALUES` different values: all of them; otherwise empty.
    bins
        Of numbers, integers and dates: a histogram of `BINS` equal bins from ``min`` to ``max``; otherwise empty.
    """

    name: str
    type: ColumnType
    distinct: int
    missing: int
    examples: list[str] = []
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    spread: float | None = None
    values: list[tuple[str, int]] = []
    bins: list[int] = []


class Exclusion(_Facts):
    """A column that is left out by default."""

    column: str
    index: int
    reason: Reason


class Suggestion(_Facts):
    """A guess of the label, of the task, and of the columns to leave out. The label is the index of a column."""

    label: int | None = None
    task: Task | None = None
    exclude: list[Exclusion] = []


class Scatter(_Facts):
    """Some rows of a table as points of scatter plots.

    Parameters
    ----------
    columns
        The indices of the columns that are drawn.
    places
        For each of these columns, the place of each point between the least and the greatest value of the column, from
        0 to `PLACES`; None if the cell is missing.
    classes, groups
        The classes of the suggested label, and the index of each point's class; empty if the label has many values.
    """

    columns: list[int]
    places: list[list[int | None]]
    classes: list[str] = []
    groups: list[int | None] = []


class TableFacts(_Facts):
    """What an inspection finds in a table.

    Parameters
    ----------
    compressed
        Whether the file is compressed by gzip.
    rows
        The number of rows, without the header, comments and blank lines.
    delimiter, decimal, encoding
        What was detected or chosen; None if the format has no such property.
    thousands
        The mark that groups thousands in some of the numbers; None if there is none.
    header
        Whether the names of the columns are in the file.
    sheet, sheets
        The sheet that was read, and all sheets of the workbook.
    comment_lines, blank_lines
        How many lines were skipped.
    warnings
        What was done that the user may not expect.
    sample
        The first rows, as in the file.
    scatter
        Some rows as points; None if there are fewer than two columns of numbers.
    """

    format: Literal["delimited", "xlsx", "parquet", "arff"]
    compressed: bool = False
    columns: list[ColumnFacts]
    rows: int
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    header: bool = True
    sheet: str | None = None
    sheets: list[str] = []
    comment_lines: int = 0
    blank_lines: int = 0
    suggested: Suggestion = Suggestion()
    warnings: list[Text] = []
    sample: list[list[str]] = []
    scatter: Scatter | None = None


class ReadOptions(BaseModel):
    """How a file is read; what is None is detected. An option that the format of the file does not have is refused.

    Parameters
    ----------
    header
        Whether the first row contains the names of the columns.
    delimiter
        One of `DELIMITERS`.
    decimal
        One of `DECIMAL_MARKS`.
    encoding
        One of `ENCODINGS`.
    sheet
        The name of the sheet of a workbook; the first sheet if None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: bool | None = None
    delimiter: Annotated[str, Field(max_length=20)] | None = None
    decimal: Annotated[str, Field(max_length=20)] | None = None
    encoding: Annotated[str, Field(max_length=40)] | None = None
    sheet: Annotated[str, Field(max_length=255)] | None = None


@dataclass(frozen=True)
class Limits:
    """The maximum size of a table: its rows, its columns, and the bytes of the file when it is unpacked."""

    rows: int
    columns: int
    bytes: int
