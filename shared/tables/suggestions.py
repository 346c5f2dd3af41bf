"""Which column is most likely the label, what task it is good for, and which columns are left out by default.

The label is the first column that has one of the names `_LABELS`, the earlier names first, and two different values at
least. Without one it is the last column of texts or booleans with few values, and without such a column the last one.
Columns that are left out are no labels; identifiers and parts of a date are none unless they have one of the names.
"""

from collections.abc import Sequence
from typing import Final

from shared.tables.columns import TypedColumn
from shared.tables.facts import ColumnFacts, ColumnType, Exclusion, Reason, Suggestion
from shared.tables.guesses import find_exclusion_reason, guess_task, is_row_name
from shared.texts import Text, text

_LABELS: Final = (
    *("target", "label", "labels", "outcome", "survived", "species", "diagnosis", "y", "class", "classes", "type"),
    *("attrition", "churn", "default", "deny", "spam", "status", "response", "grade", "quality", "purchase", "sp"),
    # What data sets for regression are about.
    *("sales", "price", "salary", "wage", "charges", "mpg", "medv", "tip"),
)
_NO_LABELS: Final = frozenset({"id", "year", "month", "day", "date", "time", "hour", "minute", "weekday", "week"})
_COORDINATES: Final = frozenset({"x", "y"})
"""If both are numbers and there are other columns, ``y`` is the place of a point, and no label."""
_WORDS: Final = frozenset({ColumnType.TEXT, ColumnType.BOOLEAN})
_ROW_REASONS: Final = frozenset({Reason.ROW_NUMBERS, Reason.UNNAMED})
_MAX_TEXT_CLASSES: Final = 30


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
    return Suggestion(label=label, task=guess_task(facts[label]), exclude=excluded), warnings


def _find_reason(column: TypedColumn, facts: ColumnFacts, *, unnamed: bool) -> Reason | None:
    return find_exclusion_reason(
        facts.type,
        column.numbers,
        distinct=facts.distinct,
        rows=len(column.cells),
        is_row_name=unnamed or is_row_name(facts.name),
    )


def _all_differ(column: TypedColumn, facts: ColumnFacts) -> bool:
    return facts.distinct == len(column.cells) > 1


def _find_label(facts: Sequence[ColumnFacts], out: set[int]) -> int | None:
    usable = [index for index, found in enumerate(facts) if index not in out and found.distinct > 1]
    names = {index: facts[index].name.lower() for index in usable}
    numbers = {name for index, name in names.items() if facts[index].type not in _WORDS}
    has_coordinates = numbers >= _COORDINATES and len(names) > len(_COORDINATES)
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
