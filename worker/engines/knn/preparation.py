"""Makes the data set of a job from a table and the parameters, and says what was done to which column.

What depends on the training part, such as the values that fill gaps, is left to `encoding`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import RequestInvalidError
from shared.kinds.knn.parameters import KnnParams, Missing, Normalisation, Task, TextColumns, UploadedDataset
from shared.kinds.knn.resolution import find_reason
from shared.kinds.knn.selection import DATASET, LABEL, Columns, Selection, name_columns, select_columns
from shared.tables.facts import ColumnType, name_column
from shared.tables.guesses import find_exclusion_reason, is_row_name
from shared.tables.table import Column, Table
from shared.texts import Text, text
from worker.engines.knn.dataset import Coded, Dataset, Encoding
from worker.engines.knn.space import Floats, Labels
from worker.engines.knn.value_order import name_number, sort_texts

MAX_LINES: Final = 10
"""How many lines of the file a message names."""
_USES: Final[Mapping[ColumnType, str]] = {ColumnType.DATE: "days", ColumnType.BOOLEAN: "boolean"}
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Prepared:
    """A data set, and what was done to make it.

    Parameters
    ----------
    report
        The field ``preparation`` of the result, with texts as codes.
    """

    dataset: Dataset
    report: dict[str, Any]


def prepare(params: KnnParams, table: Table, name: str) -> Prepared:
    """Make a data set of a table.

    Parameters
    ----------
    params
        Complete parameters: the task is not None, and for an upload neither is the label.
    name
        The name of the data set in titles.

    Raises
    ------
    RequestInvalidError
        The table does not allow what the parameters ask for.
    """
    work = _Preparation(params, table)
    labels, classes = work.make_labels()
    names = [column.name for _, column in work.attributes]
    numbers, coded = work.make_attributes()
    rows = None if work.kept.all() else np.flatnonzero(work.kept)
    return Prepared(Dataset(name, names, numbers, labels, classes, coded, rows), work.make_report(coded))


@dataclass
class _Preparation:
    params: KnnParams
    table: Table
    selection: Selection = field(init=False)
    attributes: list[tuple[int, Column]] = field(init=False)
    """The attributes that are used, with their indices."""
    reasons: dict[int, Text] = field(init=False, default_factory=dict)
    """Why columns are left out, keyed by index."""
    gaps: list[Mask] = field(init=False)
    """For each column, which of its cells are missing, shape (n,)."""
    labelled: Mask = field(init=False)
    """The rows that have a label, shape (n,)."""
    kept: Mask = field(init=False)
    """The rows that are used, shape (n,)."""

    def __post_init__(self) -> None:
        columns, dataset = self.table.columns, self.params.dataset
        if isinstance(dataset, UploadedDataset):
            self.selection = select_columns(dataset, Columns([column.name for column in columns]))
            self._text_columns, self._missing = dataset.text_columns, dataset.missing
        else:
            self.selection = Selection(0, range(1, len(columns)))
            self._text_columns, self._missing = TextColumns.REFUSE, Missing.REFUSE
        self.gaps = [find_gaps(column) for column in columns]
        self.labelled = ~self.gaps[self.selection.label]
        self.attributes = self._choose_attributes()
        self.kept = self._choose_rows()
        # An attribute whose only values are in rows that are left out is empty now.
        for index, _ in self.attributes:
            if self.gaps[index][self.kept].all():
                self.reasons[index] = text("column-empty")
        self.attributes = [each for each in self.attributes if each[0] not in self.reasons]
        if not self.attributes:
            raise RequestInvalidError.at(DATASET, text("attributes-missing"))

    def _choose_attributes(self) -> list[tuple[int, Column]]:
        """Choose the attributes that are used, and say why the others are not."""
        chosen = set(self.selection.attributes)
        texts: list[str] = []
        for index, column in enumerate(self.table.columns):
            if index == self.selection.label:
                continue
            distinct = _count_distinct(column) if column.type is ColumnType.TEXT else 0
            reason = find_reason(column.type, distinct, self._text_columns)
            if index not in chosen:
                self.reasons[index] = self._explain_choice(index, column)
            elif reason is not None:
                self.reasons[index] = reason
            elif column.type is ColumnType.TEXT and self._text_columns is TextColumns.REFUSE:
                texts.append(column.name)
        if texts:
            raise RequestInvalidError.at(
                f"{DATASET}/text_columns", text("columns-of-text", columns=name_columns(texts))
            )
        return [(index, self.table.columns[index]) for index in sorted(chosen - self.reasons.keys())]

    def _explain_choice(self, index: int, column: Column) -> Text:
        dataset = self.params.dataset
        if isinstance(dataset, UploadedDataset) and dataset.columns is not None:
            return text("column-not-chosen")
        reason = find_exclusion_reason(
            column.type,
            column.numbers,
            distinct=_count_distinct(column),
            rows=len(self.table.lines),
            is_row_name=is_row_name(column.name) or column.name == name_column(index),
        )
        return text("column-left-out") if reason is None else text(reason, column=column.name)

    def _choose_rows(self) -> Mask:
        gaps = np.zeros(len(self.table.lines), np.bool_)
        for index, _ in self.attributes:
            gaps |= self.gaps[index]
        if self._missing is Missing.REFUSE and (gaps & self.labelled).any():
            lines = self.table.lines[gaps & self.labelled]
            listed = ", ".join(map(str, lines[:MAX_LINES].tolist()))
            raise RequestInvalidError.at(f"{DATASET}/missing", text("lines-with-gaps", lines=listed, count=len(lines)))
        kept: Mask = self.labelled & ~gaps if self._missing is Missing.DROP_ROWS else self.labelled
        if not kept.any():
            raise RequestInvalidError.at(f"{DATASET}/missing", text("no-row-left"))
        return kept

    def make_labels(self) -> tuple[Labels, list[str]]:
        """Return the labels of the rows that are used, and the names of the classes."""
        column = self.table.columns[self.selection.label]
        if self.params.task is Task.REGRESSION:
            if column.numbers is None:
                raise RequestInvalidError.at("/params/task", text("label-not-a-number", label=column.name))
            return column.numbers[self.kept], []
        codes, classes = encode(column, self.kept)
        labels = codes.astype(np.int64)
        if (labels == labels[0]).all():
            raise RequestInvalidError.at(LABEL, text("label-one-class", label=classes[labels[0]]))
        return labels, classes

    def make_attributes(self) -> tuple[Floats, dict[int, Coded]]:
        """Return the attributes of the rows that are used, and which of them are codes of what."""
        numbers = np.empty((np.count_nonzero(self.kept), len(self.attributes)))
        coded: dict[int, Coded] = {}
        for position, (_, column) in enumerate(self.attributes):
            if column.type in {ColumnType.TEXT, ColumnType.BOOLEAN}:
                numbers[:, position], values = encode(column, self.kept)
                coded[position] = Coded(self._choose_encoding(column), values)
            elif column.numbers is not None:
                numbers[:, position] = column.numbers[self.kept]
        return numbers, coded

    def _choose_encoding(self, column: Column) -> Encoding:
        if column.type is ColumnType.BOOLEAN:
            return Encoding.BOOLEAN
        return Encoding.ORDINAL if self._text_columns is TextColumns.ORDINAL else Encoding.ONEHOT

    def make_report(self, coded: Mapping[int, Coded]) -> dict[str, Any]:
        """Describe what was done, as the field ``preparation`` of the result."""
        by_index = {index: position for position, (index, _) in enumerate(self.attributes)}
        columns = []
        for index, column in enumerate(self.table.columns):
            position = by_index.get(index)
            columns.append(self._describe(index, column, None if position is None else coded.get(position)))
        labelled = int(np.count_nonzero(self.labelled))
        used = int(np.count_nonzero(self.kept))
        rows = len(self.table.lines)
        return {
            "rows": rows,
            "used_rows": used,
            "dropped_without_label": rows - labelled,
            "dropped_with_gaps": labelled - used,
            "detected": _describe_reading(self.params),
            "columns": columns,
        }

    def _describe(self, index: int, column: Column, coded: Coded | None) -> dict[str, Any]:
        gaps = self.gaps[index]
        reason = self.reasons.get(index)
        is_attribute = reason is None and index != self.selection.label
        use = (
            "left-out" if reason is not None else _USES.get(column.type, "number") if coded is None else coded.encoding
        )
        imputed = "median" if coded is None else "most_frequent"
        is_number = coded is None or coded.encoding is Encoding.ORDINAL
        is_text = coded is not None and coded.encoding is not Encoding.BOOLEAN
        return {
            "column": column.name,
            "index": index,
            "type": str(column.type),
            "use": str(use) if is_attribute or reason is not None else "label",
            "missing": int(np.count_nonzero(gaps)),
            "imputed": imputed if is_attribute and gaps[self.kept].any() else None,
            "scaled": is_attribute and is_number and self.params.normalise is not Normalisation.NONE,
            "values": len(coded.values) if coded is not None and is_text else None,
            "reason": None if reason is None else reason.serialize(),
        }


def find_gaps(column: Column) -> Mask:
    """Return which cells of a column are missing, shape (n,)."""
    if column.texts is not None:
        return np.array([cell is None for cell in column.texts], np.bool_)
    if column.numbers is None:
        raise ValueError(f"the column {column.name!r} has neither numbers nor texts")
    return np.isnan(column.numbers)


def _count_distinct(column: Column) -> int:
    if column.texts is not None:
        return len(set(column.texts) - {None})
    return 0 if column.numbers is None else len(np.unique(column.numbers[~np.isnan(column.numbers)]))


def encode(column: Column, rows: Mask) -> tuple[Floats, list[str]]:
    """Return the codes of a column in some rows, shape (m,), NaN if missing, and the values that they are indices of.

    The values are in ascending order. A boolean has both its values, even if only one of them occurs in these rows.
    """
    if column.texts is not None:
        cells = [cell for cell, is_kept in zip(column.texts, rows.tolist(), strict=True) if is_kept]
        values = sort_texts({cell for cell in cells if cell is not None})
        index = {value: float(position) for position, value in enumerate(values)}
        return np.array([np.nan if cell is None else index[cell] for cell in cells], np.float64), values
    numbers = np.empty(0) if column.numbers is None else column.numbers[rows]
    if column.type is ColumnType.BOOLEAN and column.words is not None:
        return numbers, list(column.words)
    present = ~np.isnan(numbers)
    found, positions = np.unique(numbers[present], return_inverse=True)
    codes = np.full(len(numbers), np.nan)
    codes[present] = positions
    return codes, [name_number(number, column.type) for number in found.tolist()]


def _describe_reading(params: KnnParams) -> dict[str, Any] | None:
    if not isinstance(params.dataset, UploadedDataset):
        return None
    options = params.dataset.read_options
    return options.model_dump(include={"header", "delimiter", "decimal", "encoding", "sheet"})
