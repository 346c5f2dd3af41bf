"""Completes the parameters of a job by what was found in its table, and refuses what cannot succeed.

Everything is decided by the stored facts: no file is read, so that a submission takes milliseconds. What the facts do
not contain, such as the rows of which several cells are missing, is checked again by the worker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import Problem, RequestInvalidError
from shared.kinds.knn.datasets import load_facts
from shared.kinds.knn.parameters import (
    BuiltinDataset,
    Holdout,
    KFold,
    KnnParams,
    LeaveOneOut,
    Metric,
    Missing,
    Normalisation,
    Task,
    TextColumns,
    UploadedDataset,
)
from shared.kinds.knn.selection import DATASET, LABEL, Columns, Selection, name_columns, select_columns
from shared.tables.facts import ColumnFacts, ColumnType, TableFacts
from shared.tables.guesses import guess_task
from shared.texts import Text, text

MAX_CLASSES: Final = 1_000
MAX_ONEHOT_VALUES: Final = 30
"""A column of text with more values is not one-hot encoded, but left out."""
MAX_ABSOLUTE_VALUE: Final = 1e140
"""Squares of larger values, and sums of squares, can exceed the range of float64."""
MAX_ENCODED_CELLS: Final = 2**26
"""The maximum number of rows times attributes after encoding; these take 8 bytes each, several times over."""
_UPLOAD: Final = f"{DATASET}/upload"
_EVALUATION: Final = "/params/evaluation"


def resolve(params: KnnParams, facts: TableFacts | None) -> KnnParams:
    """Replace what the parameters leave open by what is guessed from the table, and check that the job can succeed.

    Parameters
    ----------
    facts
        What was found in the uploaded table, read as the parameters say; None for a built-in data set.

    Raises
    ------
    RequestInvalidError
        The job cannot succeed. The error contains every problem.
    """
    if isinstance(params.dataset, BuiltinDataset):
        facts = load_facts(params.dataset.name)
        selection = Selection(0, range(1, len(facts.columns)))
        resolved = params.model_copy(update={"task": params.task or guess_task(facts.columns[selection.label])})
    elif facts is None:
        raise ValueError("the table of an upload must be inspected first")
    else:
        columns = Columns([column.name for column in facts.columns])
        dataset = _resolve_dataset(params.dataset, facts, columns)
        try:
            selection = select_columns(dataset, columns)
        except RequestInvalidError as error:
            raise RequestInvalidError([*error.problems, *judge_sizes(params, facts.rows)]) from error
        task = params.task or guess_task(facts.columns[selection.label])
        resolved = params.model_copy(update={"dataset": dataset, "task": task})
    problems = [*_Judgement(resolved, facts, selection).find_problems()]
    if problems:
        raise RequestInvalidError(problems)
    return resolved


def _resolve_dataset(dataset: UploadedDataset, facts: TableFacts, columns: Columns) -> UploadedDataset:
    found: dict[str, Any] = {"delimiter": facts.delimiter, "decimal": facts.decimal, "encoding": facts.encoding}
    if facts.format in {"delimited", "xlsx"}:
        found |= {"header": facts.header, "sheet": facts.sheet}
    changes = {name: value for name, value in found.items() if value is not None}
    suggested = facts.suggested
    label = suggested.label if dataset.label is None else dataset.label
    exclude = dataset.exclude
    if exclude is None and dataset.columns is None:
        index = None if label is None else columns.find(label)
        exclude = [each.index for each in suggested.exclude if each.index != index]
    # Names say more than indices, and stay right if someone inserts a column into the file.
    changes |= {
        "label": None if label is None else columns.refer(label),
        "exclude": [columns.refer(each) for each in exclude or []],
        "columns": None if dataset.columns is None else [columns.refer(each) for each in dataset.columns],
    }
    return dataset.model_copy(update=changes)


@dataclass(frozen=True)
class _Judgement:
    """What the facts say about a job whose label and attributes are known."""

    params: KnnParams
    facts: TableFacts
    selection: Selection

    @property
    def _text_columns(self) -> TextColumns:
        dataset = self.params.dataset
        return dataset.text_columns if isinstance(dataset, UploadedDataset) else TextColumns.REFUSE

    @property
    def _missing(self) -> Missing:
        dataset = self.params.dataset
        return dataset.missing if isinstance(dataset, UploadedDataset) else Missing.REFUSE

    @property
    def _label(self) -> ColumnFacts:
        return self.facts.columns[self.selection.label]

    @property
    def _attributes(self) -> Sequence[ColumnFacts]:
        """The attributes that are neither empty nor left out because of their text."""
        columns = [self.facts.columns[index] for index in self.selection.attributes]
        return [column for column in columns if find_reason(column.type, column.distinct, self._text_columns) is None]

    def find_problems(self) -> Iterator[Problem]:
        yield from self._judge_label()
        yield from self._judge_attributes()
        yield from self._judge_evaluation()

    def _judge_label(self) -> Iterator[Problem]:
        label = self._label
        if label.type is ColumnType.EMPTY:
            yield Problem(LABEL, text("label-empty", label=label.name))
        elif self.params.task is Task.REGRESSION:
            if label.type is ColumnType.TEXT:
                yield Problem("/params/task", text("label-not-a-number", label=label.name))
            elif is_too_large(label):
                yield Problem(LABEL, _describe_large([label]))
        elif label.distinct == 1:
            value = label.examples[0] if label.examples else ""
            yield Problem(LABEL, text("label-one-class", label=value))
        elif label.distinct > MAX_CLASSES:
            yield Problem(LABEL, text("label-too-many-classes", classes=label.distinct, max_classes=MAX_CLASSES))

    def _judge_attributes(self) -> Iterator[Problem]:
        attributes = self._attributes
        if not attributes:
            yield Problem(DATASET, text("attributes-missing"))
            return
        texts = [column.name for column in attributes if column.type is ColumnType.TEXT]
        if texts and self._text_columns is TextColumns.REFUSE:
            yield Problem(f"{DATASET}/text_columns", text("columns-of-text", columns=name_columns(texts)))
        gaps = [column.name for column in attributes if column.missing]
        if gaps and self._missing is Missing.REFUSE and not self._label.missing:  # rows without a label are left out
            yield Problem(f"{DATASET}/missing", text("columns-with-gaps", columns=name_columns(gaps)))
        large = [column for column in attributes if is_too_large(column)]
        if large:
            yield Problem(_UPLOAD, _describe_large(large))
        cells = self._rows * count_encoded(attributes, self._text_columns)
        if cells > MAX_ENCODED_CELLS:
            yield Problem(f"{DATASET}/text_columns", text("columns-too-wide", cells=cells, max_cells=MAX_ENCODED_CELLS))
        if texts and self._text_columns is TextColumns.ORDINAL and self.params.metric is Metric.BHATTACHARYYA:
            yield Problem("/params/metric", text("bhattacharyya-ordinal", columns=name_columns(texts)))
        if self.params.metric is Metric.BHATTACHARYYA and self.params.normalise is Normalisation.NONE:
            negative = [column.name for column in attributes if column.min is not None and column.min < 0]
            if negative:
                yield Problem("/params/metric", text("bhattacharyya-negative", columns=name_columns(negative)))

    @property
    def _rows(self) -> int:
        """The highest possible number of rows that are evaluated."""
        gaps = [self._label.missing]
        if self._missing is Missing.DROP_ROWS:
            gaps += [column.missing for column in self._attributes]
        return self.facts.rows - max(gaps)

    def _judge_evaluation(self) -> Iterator[Problem]:
        evaluation, rows = self.params.evaluation, self._rows
        if not rows:
            if self._label.type is not ColumnType.EMPTY:  # this is said already
                yield Problem(f"{DATASET}/missing", text("no-row-left"))
            return
        problems = [*judge_sizes(self.params, rows)]
        yield from problems
        if isinstance(evaluation, LeaveOneOut) or evaluation.stratify is not True:
            return
        if self.params.task is Task.REGRESSION:
            yield Problem(f"{_EVALUATION}/stratify", text("stratify-needs-classes"))
        elif not problems and self._label.distinct > 1:
            yield from self._judge_strata(evaluation)

    def _judge_strata(self, evaluation: Holdout | KFold) -> Iterator[Problem]:
        """Compare the sizes of the classes with the folds, if the facts contain them."""
        label = self._label
        at_least = evaluation.min_class_rows
        counts = dict(label.values)
        if len(counts) == label.distinct and self._missing is not Missing.DROP_ROWS:
            smallest = min(counts, key=lambda name: counts[name])
            if counts[smallest] < at_least:
                yield judge_class(smallest, counts[smallest], at_least)
        elif label.distinct * at_least > self._rows:  # then at least one class is too small
            yield Problem(f"{_EVALUATION}/stratify", text("classes-too-small", min_rows=at_least))


def judge_class(name: str, rows: int, min_rows: int) -> Problem:
    """Make the problem of a class that is too small for stratified parts."""
    return Problem(f"{_EVALUATION}/stratify", text("class-too-small", name=name, rows=rows, min_rows=min_rows))


def judge_sizes(params: KnnParams, rows: int) -> Iterator[Problem]:
    """Find the parts that the rows do not suffice for."""
    evaluation = params.evaluation
    if rows == 1:
        yield Problem(DATASET, text("one-row"))
        return
    if isinstance(evaluation, Holdout):
        n_train = evaluation.count_training(rows)
        if n_train >= rows or n_train < 1:
            code = "train-size-too-large" if n_train >= rows else "train-size-too-small"
            yield Problem(f"{_EVALUATION}/train_size", text(code, rows=rows, max_train_size=rows - 1))
            return
    elif isinstance(evaluation, KFold):
        n_train = rows - -(-rows // evaluation.folds)
        if evaluation.folds > rows:
            yield Problem(f"{_EVALUATION}/folds", text("folds-too-many", rows=rows))
            return
    else:
        n_train = rows - 1
    if max(params.ks) > n_train:
        yield Problem("/params/k", text("k-too-large", train_rows=n_train))


def find_reason(column_type: ColumnType, distinct: int, text_columns: TextColumns) -> Text | None:
    """Return why a column is left out although the parameters name it as an attribute; None if it is not."""
    if column_type is ColumnType.EMPTY:
        return text("column-empty")
    if column_type is not ColumnType.TEXT:
        return None
    if text_columns is TextColumns.DROP:
        return text("text-dropped")
    if text_columns is TextColumns.ONEHOT and distinct > MAX_ONEHOT_VALUES:
        return text("text-too-many-values", values=distinct, max_values=MAX_ONEHOT_VALUES)
    return None


def count_encoded(attributes: Sequence[ColumnFacts], text_columns: TextColumns) -> int:
    """Count the columns after encoding."""
    is_encoded = text_columns is TextColumns.ONEHOT
    return sum(column.distinct if is_encoded and column.type is ColumnType.TEXT else 1 for column in attributes)


def is_too_large(column: ColumnFacts) -> bool:
    """Return whether a column has values whose squares are out of range."""
    return max(-(column.min or 0), column.max or 0) > MAX_ABSOLUTE_VALUE


def _describe_large(columns: Sequence[ColumnFacts]) -> Text:
    names = name_columns([column.name for column in columns])
    return text("columns-too-large", columns=names, max_value=MAX_ABSOLUTE_VALUE)
