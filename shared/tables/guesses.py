"""What is guessed about one column: why it is left out by default, and the task that it is good for as the label.

The inspection, the submission and the worker guess alike, so this module needs no library.
"""

from typing import TYPE_CHECKING, Final

from shared.tables.facts import ColumnFacts, ColumnType, Reason, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROW_NAMES: Final = frozenset(
    {"unnamed: 0", "rownames", "row.names", "row_names", "rowname", "row names", "index", "__index_level_0__"}
)
_MAX_INTEGER_CLASSES: Final = 20
_NEARLY_UNIQUE: Final = 0.95


def find_exclusion_reason(
    kind: ColumnType, numbers: "NDArray[np.float64] | None", *, distinct: int, rows: int, is_row_name: bool
) -> Reason | None:
    """Return why a column is left out by default, or None if it is not.

    Parameters
    ----------
    numbers
        The cells of a column of integers, shape (rows,), NaN if missing. They are not read of other columns.
    distinct
        The number of different values.
    is_row_name
        Whether the column has no name, or one that names rows.
    """
    if kind is ColumnType.EMPTY:
        return Reason.EMPTY
    if kind is ColumnType.INTEGER and numbers is not None and _numbers_rows(numbers):
        return Reason.ROW_NUMBERS
    if is_row_name and distinct == rows > 1:
        return Reason.UNNAMED
    if kind is ColumnType.TEXT and distinct > _NEARLY_UNIQUE * rows:
        return Reason.NEARLY_UNIQUE_TEXT
    return Reason.CONSTANT if distinct == 1 else None


def is_row_name(name: str) -> bool:
    """Return whether a column has no name, or one that programs give to the names of rows."""
    return not name or name.lower() in _ROW_NAMES


def _numbers_rows(numbers: "NDArray[np.float64]") -> bool:
    """Return whether a column counts the rows from 0 or 1."""
    if len(numbers) < 2 or numbers[0] not in {0.0, 1.0}:  # noqa: PLR2004 - one number counts nothing
        return False
    return all(number == expected for expected, number in enumerate(numbers.tolist(), start=int(numbers[0])))


def guess_task(label: ColumnFacts) -> Task:
    """Guess the task from the label: integers are classes if there are few of them and each occurs at least twice."""
    if label.type in {ColumnType.TEXT, ColumnType.BOOLEAN, ColumnType.EMPTY}:
        return Task.CLASSIFICATION
    if label.type is not ColumnType.INTEGER or label.distinct > _MAX_INTEGER_CLASSES:
        return Task.REGRESSION
    return Task.CLASSIFICATION if min(count for _, count in label.values) > 1 else Task.REGRESSION
