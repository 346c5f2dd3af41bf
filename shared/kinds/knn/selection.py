"""Which columns of a table are the label and the attributes of a job."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import Problem, RequestInvalidError
from shared.kinds.knn.parameters import Reference, UploadedDataset
from shared.texts import Text, text

DATASET: Final = "/params/dataset"
LABEL: Final = f"{DATASET}/label"
MAX_NAMES: Final = 20
"""How many columns a sentence names."""


@dataclass(frozen=True)
class Selection:
    """The label and the attributes of a job, by the indices of their columns; the attributes in ascending order."""

    label: int
    attributes: Sequence[int]


def select_columns(dataset: UploadedDataset, names: Sequence[str]) -> Selection:
    """Find the columns that the parameters name, which contain a label.

    Parameters
    ----------
    names
        The names of all columns of the table.

    Raises
    ------
    RequestInvalidError
        A column does not exist, is not unique, is given twice, or cannot be what it is given as. The error contains
        every such column.
    """
    problems: list[Problem] = []
    label = _find_label(dataset, names, problems)
    excluded = _find_columns("exclude", dataset.exclude or (), names, problems)
    for position, column in enumerate(excluded):
        if column is not None and column == label:
            problems.append(Problem(f"{DATASET}/exclude/{position}", text("label-excluded", column=names[column])))
    left_out = {column for column in excluded if column is not None}
    if dataset.columns is None:
        attributes = [index for index in range(len(names)) if index not in left_out]
    else:
        chosen = _find_columns("columns", dataset.columns, names, problems)
        problems += _find_contradictions(chosen, label, left_out, names)
        attributes = sorted({index for index in chosen if index is not None} - left_out)
    if problems or label is None:
        raise RequestInvalidError(problems)
    return Selection(label, [index for index in attributes if index != label])


def find_column(reference: Reference, names: Sequence[str]) -> int | Text:
    """Return the index of a column; or, if there is no such column or several, what is wrong."""
    if isinstance(reference, int):
        if -len(names) <= reference < len(names):
            return reference % len(names)
        return text("column-index-unknown", column=reference, last=len(names) - 1)
    count = names.count(reference)
    if count == 1:
        return names.index(reference)
    if count:
        return text("column-ambiguous", column=reference, count=count)
    return text("column-unknown", column=reference, columns=name_columns(names))


def refer_to(index: int, names: Sequence[str]) -> Reference:
    """Return what selects a column: its name or, if the name is empty or not unique, its index."""
    return names[index] if names[index] and names.count(names[index]) == 1 else index


def name_columns(names: Iterable[str]) -> str:
    """List names of columns for a sentence: the first ones, and how many others there are."""
    listed = [repr(name) for name in names]
    more = len(listed) - MAX_NAMES
    return ", ".join(listed[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _find_label(dataset: UploadedDataset, names: Sequence[str], problems: list[Problem]) -> int | None:
    if dataset.label is None:
        problems.append(Problem(LABEL, text("label-needed", columns=name_columns(names))))
        return None
    found = find_column(dataset.label, names)
    if isinstance(found, Text):
        problems.append(Problem(LABEL, found))
        return None
    return found


def _find_columns(
    field: str, references: Iterable[Reference], names: Sequence[str], problems: list[Problem]
) -> list[int | None]:
    """Find columns; the result contains None for each column with a problem."""
    columns: list[int | None] = []
    for position, reference in enumerate(references):
        found = find_column(reference, names)
        if isinstance(found, int) and found in columns:
            found = text("column-twice", column=names[found])
        if isinstance(found, Text):
            problems.append(Problem(f"{DATASET}/{field}/{position}", found))
        columns.append(None if isinstance(found, Text) else found)
    return columns


def _find_contradictions(
    chosen: Sequence[int | None], label: int | None, excluded: set[int], names: Sequence[str]
) -> Iterator[Problem]:
    """Find the columns that are chosen as attributes, but are the label or excluded."""
    for position, column in enumerate(chosen):
        pointer = f"{DATASET}/columns/{position}"
        if column is not None and column == label:
            yield Problem(pointer, text("label-chosen", column=names[column]))
        elif column is not None and column in excluded:
            yield Problem(pointer, text("column-excluded", column=names[column]))
