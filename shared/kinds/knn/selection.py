"""Which columns of a table are the label and the attributes of a job."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from shared.errors import Problem, RequestInvalidError
from shared.kinds.knn.parameters import Reference, UploadedDataset
from shared.schemas.problems import limit_problems
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


class Columns:
    """The names of the columns of a table, and how parameters select a column: by its name, or by its index."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._places: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            self._places.setdefault(name, []).append(index)

    def find(self, reference: Reference) -> int | Text:
        """Return the index of a column; or, if there is no such column or several, what is wrong."""
        if isinstance(reference, int):
            if -len(self.names) <= reference < len(self.names):
                return reference % len(self.names)
            return text("column-index-unknown", column=reference, last=len(self.names) - 1)
        places = self._places.get(reference, [])
        if len(places) > 1:
            return text("column-ambiguous", column=reference, count=len(places))
        return places[0] if places else text("column-unknown", column=reference, columns=self.listed)

    def refer(self, reference: Reference) -> Reference:
        """Return the name of a column, or its index if the name is empty or not unique; an unknown one as it is."""
        index = self.find(reference)
        if isinstance(index, Text):
            return reference
        name = self.names[index]
        return name if name and len(self._places[name]) == 1 else index

    @cached_property
    def listed(self) -> str:
        """The first names, for sentences."""
        return name_columns(self.names)


def select_columns(dataset: UploadedDataset, columns: Columns) -> Selection:
    """Find the columns that the parameters name, which contain a label.

    Raises
    ------
    RequestInvalidError
        A column does not exist, is not unique, is given twice, or cannot be what it is given as. The error contains
        the first such columns, and the number of the others.
    """
    problems: list[Problem] = []
    label = _find_label(dataset, columns, problems)
    excluded = _find_columns("exclude", dataset.exclude or (), columns, problems)
    for position, column in enumerate(excluded):
        if column is not None and column == label:
            problem = text("label-excluded", column=columns.names[column])
            problems.append(Problem(f"{DATASET}/exclude/{position}", problem))
    left_out = {column for column in excluded if column is not None}
    if dataset.columns is None:
        attributes = [index for index in range(len(columns.names)) if index not in left_out]
    else:
        chosen = _find_columns("columns", dataset.columns, columns, problems)
        problems += _find_contradictions(chosen, label, left_out, columns.names)
        attributes = sorted({index for index in chosen if index is not None} - left_out)
    if problems or label is None:
        raise RequestInvalidError(limit_problems(problems, DATASET))
    return Selection(label, [index for index in attributes if index != label])


def name_columns(names: Collection[str]) -> str:
    """List names of columns for a sentence: the first ones, and how many others there are."""
    more = len(names) - MAX_NAMES
    return ", ".join(map(repr, islice(names, MAX_NAMES))) + (f" and {more} more" if more > 0 else "")


def _find_label(dataset: UploadedDataset, columns: Columns, problems: list[Problem]) -> int | None:
    if dataset.label is None:
        problems.append(Problem(LABEL, text("label-needed", columns=columns.listed)))
        return None
    found = columns.find(dataset.label)
    if isinstance(found, Text):
        problems.append(Problem(LABEL, found))
        return None
    return found


def _find_columns(
    field: str, references: Iterable[Reference], columns: Columns, problems: list[Problem]
) -> list[int | None]:
    """Find columns; the result contains None for each column with a problem."""
    found: list[int | None] = []
    seen: set[int] = set()
    for position, reference in enumerate(references):
        column = columns.find(reference)
        if isinstance(column, int) and column in seen:
            column = text("column-twice", column=columns.names[column])
        if isinstance(column, Text):
            problems.append(Problem(f"{DATASET}/{field}/{position}", column))
            found.append(None)
        else:
            seen.add(column)
            found.append(column)
    return found


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
