"""Whether the first row of a table contains the names of its columns.

Each column votes by its other cells. If they are numbers, dates or booleans and the first cell is not, the first cell
is a name; if the first cell is a number, too, it is none. Among texts, a first cell that occurs again is none. Names
differ, so equal cells in the first row are a vote against names. Years in a row, beside texts, are names. Without a
majority there are no names if the first row has a number, and names otherwise.
"""

import re
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import Final

from shared.tables.missing import MISSING

SAMPLE_ROWS: Final = 200
_NUMBER: Final = re.compile(
    r"[+-]?([0-9]+([.,'\u2019 \u00a0][0-9]+)*[.,]?|[.,][0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?", re.IGNORECASE
)
_DATE: Final = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}([T ].*)?")
_YEAR: Final = re.compile(r"(1[89]|20)[0-9][0-9]")
_MIN_YEARS: Final = 3
_BOOLEAN: Final = re.compile("true|false", re.IGNORECASE)


class _Kind(Enum):
    NUMBER = "number"
    DATE = "date"
    BOOLEAN = "boolean"
    TEXT = "text"


def has_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row contains names.

    Parameters
    ----------
    first
        The cells of the first row.
    rows
        Some of the following rows.
    """
    votes = sum(
        _vote(cell.strip(), [row[index].strip() for row in rows if index < len(row)])
        for index, cell in enumerate(first)
    )
    names = [cell.strip() for cell in first if cell.strip()]
    votes -= len(names) - len(set(names))
    votes += 2 * _count_years(names)
    if votes:
        return votes > 0
    return not any(_kind(name) is _Kind.NUMBER for name in names)


def _count_years(names: Sequence[str]) -> int:
    """Return the number of years if the cells that are no texts are three or more years, one after another."""
    numbers = [name for name in names if _kind(name) is not _Kind.TEXT]
    if not _MIN_YEARS <= len(numbers) < len(names) or not all(map(_YEAR.fullmatch, numbers)):
        return 0
    steps = {int(later) - int(earlier) for earlier, later in pairwise(numbers)}
    return len(numbers) if steps == {1} else 0


def _vote(first: str, others: Sequence[str]) -> int:
    """Return 1 if the first cell of a column is a name, -1 if it is not, and 0 if the column does not say."""
    present = [cell for cell in others if cell not in MISSING]
    if not present or first in MISSING:
        return 0
    kinds = {_kind(cell) for cell in present}
    if kinds == {_Kind.TEXT}:
        return -1 if first in present else 0
    if len(kinds) > 1:
        return 0
    return -1 if _kind(first) in kinds else 1


def _kind(cell: str) -> _Kind:
    for kind, pattern in ((_Kind.NUMBER, _NUMBER), (_Kind.DATE, _DATE), (_Kind.BOOLEAN, _BOOLEAN)):
        if pattern.fullmatch(cell):
            return kind
    return _Kind.TEXT
