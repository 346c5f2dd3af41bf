"""Data sets, built in or uploaded. Each row of a data set has numeric attributes and a label."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import Problem, RequestInvalidError
from shared.kinds.knn.csv_files import UPLOAD, Limits, name_columns, read_bytes, split_rows
from shared.kinds.knn.parameters import (
    BuiltinDataset,
    Holdout,
    KFold,
    KnnParams,
    Metric,
    Normalisation,
    Task,
    UploadedDataset,
)
from shared.texts import text

DATA_FOLDER: Final = Path(__file__).parent / "data"
LABEL: Final = "/params/dataset/label"
ROWS_PER_BLOCK: Final = 4_096


@dataclass(frozen=True)
class Dataset:
    """A table that was read and checked.

    Parameters
    ----------
    name
        The name of the data set in titles.
    columns
        The names of the d attributes.
    attributes
        The attributes of the n rows: shape (n, d), float64, all values finite.
    labels
        The labels of the n rows: shape (n,). For classification the index of the class in ``classes``, int64; for
        regression the value, float64.
    classes
        The names of the classes in ascending order; empty for regression.
    """

    name: str
    columns: list[str]
    attributes: NDArray[np.float64]
    labels: NDArray[np.int64] | NDArray[np.float64]
    classes: list[str]


@dataclass(frozen=True)
class Builtin:
    """A built-in data set, as ``GET /datasets`` describes it."""

    name: str
    title: str
    file: str
    label: str
    columns: tuple[str, ...]
    rows: int
    classes: tuple[str, ...]
    source: str
    licence: str


WINE: Final = Builtin(
    name="wine",
    title="Wine: 178 wines of three cultivars",
    file="wine.data",
    label="Cultivar",
    columns=(
        "Alcohol",
        "Malic acid",
        "Ash",
        "Alcalinity of ash",
        "Magnesium",
        "Total phenols",
        "Flavanoids",
        "Nonflavanoid phenols",
        "Proanthocyanins",
        "Color intensity",
        "Hue",
        "OD280/OD315 of diluted wines",
        "Proline",
    ),
    rows=178,
    classes=("1", "2", "3"),
    source="https://doi.org/10.24432/C5PC7J",
    licence="CC BY 4.0",
)
BUILTINS: Final = {WINE.name: WINE}


def load(params: KnnParams, uploads: dict[str, Path], limits: Limits) -> Dataset:
    """Read the data set of a knn job.

    Parameters
    ----------
    params
        The job's parameters.
    uploads
        The uploaded files on this machine, keyed by upload id. If ``params`` contains an upload, its file is needed.
    limits
        The maximum size of the table.

    Raises
    ------
    RequestInvalidError
        The data set is not valid. The error contains the pointer of the field and, if possible, the line of the file.
    """
    if isinstance(params.dataset, BuiltinDataset):
        return _load_builtin(params.dataset.name, params.task, limits)
    lines = split_rows(read_bytes(uploads[params.dataset.upload]), limits)
    first = next(lines)
    names = name_columns(first, header=params.dataset.header)
    if not params.dataset.header:
        lines = itertools.chain([first], lines)
    label = _find_label(names, params.dataset)
    columns = [name for index, name in enumerate(names) if index != label]
    first_line = 2 if params.dataset.header else 1
    return _build(_Table("Uploaded table", columns, label=label, task=params.task, first_line=first_line), lines)


@cache
def _load_builtin(name: str, task: Task, limits: Limits) -> Dataset:
    """Read a built-in table only once per process, since otherwise every submission would wait until it is read."""
    builtin = BUILTINS[name]
    table = _Table(builtin.title, list(builtin.columns), label=0, task=task, first_line=1)
    dataset = _build(table, split_rows((DATA_FOLDER / builtin.file).read_bytes(), limits))
    for array in (dataset.attributes, dataset.labels):
        array.flags.writeable = False  # the cached table is shared
    return dataset


def check(params: KnnParams, dataset: Dataset) -> None:
    """Check that the parameters are possible for the data set.

    Raises
    ------
    RequestInvalidError
        The data set does not allow a parameter. The error contains every such parameter.
    """
    n = len(dataset.labels)
    problems: list[Problem] = []
    evaluation = params.evaluation
    if isinstance(evaluation, Holdout):
        n_train = evaluation.train_size
        if n_train >= n:
            problems.append(
                Problem("/params/evaluation/train_size", text("train-size-too-large", rows=n, max_train_size=n - 1))
            )
    elif isinstance(evaluation, KFold):
        n_train = n - -(-n // evaluation.folds)
        if evaluation.folds > n:
            problems.append(Problem("/params/evaluation/folds", text("folds-too-many", rows=n)))
    else:
        n_train = n - 1
    if not problems and max(params.ks) > n_train:
        problems.append(Problem("/params/k", text("k-too-large", train_rows=n_train)))
    if params.metric is Metric.BHATTACHARYYA and params.normalise is Normalisation.NONE:
        problems += _find_non_distributions(dataset)
    if problems:
        raise RequestInvalidError(problems)


def _find_non_distributions(dataset: Dataset) -> list[Problem]:
    rows, columns = np.nonzero(dataset.attributes < 0)
    if len(rows):
        column = dataset.columns[columns[0]]
        return [Problem("/params/metric", text("bhattacharyya-negative", row=int(rows[0]), column=column))]
    (empty,) = np.nonzero(dataset.attributes.sum(axis=1) == 0)
    if len(empty):
        return [Problem("/params/metric", text("bhattacharyya-zeros", row=int(empty[0])))]
    return []


@dataclass(frozen=True)
class _Table:
    """The properties of a table that are known before its numbers are read."""

    name: str
    columns: list[str]
    label: int
    task: Task
    first_line: int
    """The first line with numbers, counted from 1."""


def _find_label(names: list[str], dataset: UploadedDataset) -> int:
    width = len(names)
    if isinstance(dataset.label, int):
        if not -width <= dataset.label < width:
            raise RequestInvalidError.at(LABEL, text("label-index-unknown", label=dataset.label, last=width - 1))
        return dataset.label % width
    if not dataset.header:
        raise RequestInvalidError.at(LABEL, text("label-needs-index", last=width - 1))
    found = [index for index, name in enumerate(names) if name == dataset.label]
    if not found:
        known = ", ".join(repr(name) for name in names[:20])
        raise RequestInvalidError.at(LABEL, text("label-unknown", label=dataset.label, columns=known))
    if len(found) > 1:
        raise RequestInvalidError.at(LABEL, text("label-ambiguous", label=dataset.label, count=len(found)))
    return found[0]


def _build(table: _Table, lines: Iterator[list[str]]) -> Dataset:
    """Build a data set from the lines of a table.

    The lines are converted to numbers in blocks of rows, since as text they take ten times as much memory.
    """
    cells: list[str] = []
    parts: list[NDArray[np.float64]] = []
    while rows := list(itertools.islice(lines, ROWS_PER_BLOCK)):
        first_line = table.first_line + len(cells)
        cells += [row.pop(table.label).strip() for row in rows]
        columns = zip(table.columns, zip(*rows, strict=True), strict=True)
        parts.append(np.column_stack([_read_numbers(column, name, first_line, UPLOAD) for name, column in columns]))
    if not parts:
        raise RequestInvalidError.at(UPLOAD, text("table-without-rows"))
    attributes = np.concatenate(parts)
    if table.task is Task.REGRESSION:
        values = _read_numbers(cells, "label", table.first_line, LABEL)
        return Dataset(table.name, table.columns, attributes, values, [])
    if "" in cells:
        line = cells.index("") + table.first_line
        raise RequestInvalidError.at(LABEL, text("label-missing", line=line))
    classes = _order_classes(set(cells))
    if len(classes) == 1:
        raise RequestInvalidError.at(LABEL, text("label-one-class", label=classes[0]))
    index = {name: position for position, name in enumerate(classes)}
    labels = np.array([index[cell] for cell in cells], np.int64)
    return Dataset(table.name, table.columns, attributes, labels, classes)


def _order_classes(names: set[str]) -> list[str]:
    """Sort the names of the classes. If all names are numbers, sort by number, so that class 10 comes after class 9."""
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)


def _read_numbers(cells: Sequence[str], column: str, first_line: int, pointer: str) -> NDArray[np.float64]:
    """Convert the cells of a column to numbers. The error contains the first cell that is not a finite number."""
    try:
        numbers = np.array(cells, dtype=np.str_).astype(np.float64)
    except ValueError:
        numbers = np.array([_read_number(cell) for cell in cells])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        line = int(bad[0]) + first_line
        raise RequestInvalidError.at(
            pointer,
            text("cell-not-a-number", line=line, column=column, cell=cells[bad[0]]),
        )
    return numbers


def _read_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan
