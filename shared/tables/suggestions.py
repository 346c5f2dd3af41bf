"""Which column is most likely the label, what task it is good for, and which columns are left out by default.

The label is the first column that has one of the names `_LABELS`, the earlier names first, and two different values at
least. Without one it is the last column of texts or booleans with few values, and without such a column the last one.
Columns that are left out, identifiers and parts of a date are no labels unless they have one of the names.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.tables.columns import TypedColumn
from shared.tables.facts import ColumnFacts, ColumnType, Exclusion, Reason, Suggestion, Task
from shared.texts import Text, text

_LABELS: Final = (
    *("target", "label", "labels", "outcome", "survived", "species", "diagnosis", "y", "class", "classes", "type"),
    *("attrition", "churn", "default", "deny", "spam", "status", "response", "grade", "quality", "purchase", "sp"),
    # What data sets for regression are about.
    *("sales", "price", "salary", "wage", "charges", "mpg", "medv", "tip"),
)
_ROW_NAMES: Final = frozenset(
    {"unnamed: 0", "rownames", "row.names", "row_names", "rowname", "row names", "index", "__index_level_0__"}
)
_NO_LABELS: Final = frozenset({"id", "year", "month", "day", "date", "time", "hour", "minute", "weekday", "week"})
_COORDINATES: Final = frozenset({"x", "y", "z"})
_WORDS: Final = frozenset({ColumnType.TEXT, ColumnType.BOOLEAN})
_ROW_REASONS: Final = frozenset({Reason.ROW_NUMBERS, Reason.UNNAMED})
_MAX_TEXT_CLASSES: Final = 30
_MAX_INTEGER_CLASSES: Final = 20
_NEARLY_UNIQUE: Final = 0.95


def suggest(
    columns: Sequence[TypedColumn], facts: Sequence[ColumnFacts], unnamed: Sequence[bool]
) -> tuple[Suggestion, list[Text]]:
    """Suggest a label, a task and the columns to leave out.

    Parameters
    ----------
    columns, facts
        The columns and what is in them.
    unnamed
        Which columns have no name although the file has a header.

    Returns
    -------
    suggestion
        The suggestion.
    warnings
        The integer columns whose values all differ, which may be identifiers.
    """
    reasons = {
        index: reason
        for index, (column, found, nameless) in enumerate(zip(columns, facts, unnamed, strict=True))
        if (reason := _find_reason(column, found, unnamed=nameless)) is not None
    }
    label = _find_label(facts, set(reasons))
    if len(reasons) + (label is not None) == len(columns):
        # Nothing else is left to predict the label from, as in a series of values with their numbers.
        reasons = {index: reason for index, reason in reasons.items() if reason not in _ROW_REASONS}
    excluded = [Exclusion(column=facts[index].name, index=index, reason=reason) for index, reason in reasons.items()]
    if label is None:
        return Suggestion(exclude=excluded), []
    warnings = [
        text("integers-all-differ", column=found.name)
        for index, (column, found) in enumerate(zip(columns, facts, strict=True))
        if found.type is ColumnType.INTEGER and index not in reasons and index != label and _all_differ(column, found)
    ]
    return Suggestion(label=label, task=_find_task(columns[label], facts[label]), exclude=excluded), warnings


def _find_reason(column: TypedColumn, facts: ColumnFacts, *, unnamed: bool) -> Reason | None:
    return find_exclusion_reason(
        facts.type,
        column.numbers,
        distinct=facts.distinct,
        rows=len(column.cells),
        is_row_name=unnamed or is_row_name(facts.name),
    )


def find_exclusion_reason(
    kind: ColumnType, numbers: NDArray[np.float64] | None, *, distinct: int, rows: int, is_row_name: bool
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


def _numbers_rows(numbers: NDArray[np.float64]) -> bool:
    """Return whether a column counts the rows from 0 or 1."""
    if len(numbers) < 2 or numbers[0] not in {0.0, 1.0}:  # noqa: PLR2004 - one number counts nothing
        return False
    return bool((numbers == np.arange(len(numbers)) + numbers[0]).all())


def _all_differ(column: TypedColumn, facts: ColumnFacts) -> bool:
    return facts.distinct == len(column.cells) > 1


def _find_label(facts: Sequence[ColumnFacts], out: set[int]) -> int | None:
    usable = [index for index, found in enumerate(facts) if index not in out and found.distinct > 1]
    names = {index: facts[index].name.lower() for index in usable}
    has_coordinates = set(names.values()) >= _COORDINATES
    for wanted in _LABELS:
        if wanted == "y" and has_coordinates:
            continue
        for index in usable:
            if names[index] == wanted:
                return index
    plain = [index for index in usable if names[index] not in _NO_LABELS and facts[index].type is not ColumnType.DATE]
    few = [index for index in plain if facts[index].type in _WORDS and _has_few_values(facts[index])]
    return next((candidates[-1] for candidates in (few, plain, usable) if candidates), None)


def _has_few_values(facts: ColumnFacts) -> bool:
    present = sum(count for _, count in facts.values)
    return facts.distinct <= _MAX_TEXT_CLASSES and 2 * facts.distinct <= present


def _find_task(column: TypedColumn, facts: ColumnFacts) -> Task:
    """Return the task: integers are classes if there are few of them and each occurs at least twice."""
    if facts.type in _WORDS:
        return Task.CLASSIFICATION
    if facts.type is not ColumnType.INTEGER or facts.distinct > _MAX_INTEGER_CLASSES:
        return Task.REGRESSION
    _, counts = np.unique(column.present(), return_counts=True)
    return Task.CLASSIFICATION if counts.min() > 1 else Task.REGRESSION
