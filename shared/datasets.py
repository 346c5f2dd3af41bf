"""Tables of numbers with a label each: the built-in ones, and those that users upload."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import Problem, RequestInvalidError
from shared.schemas.knn import (
    BuiltinDataset,
    Holdout,
    KFold,
    KnnParams,
    Metric,
    Normalisation,
    Task,
    UploadedDataset,
)

DATA_FOLDER: Final = Path(__file__).parent / "data"
DATASET: Final = "/params/dataset"
UPLOAD: Final = f"{DATASET}/upload"
LABEL: Final = f"{DATASET}/label"


@dataclass(frozen=True)
class Dataset:
    """A table, read and checked.

    Parameters
    ----------
    name
        What to call it in a title.
    columns
        Names of the attributes, d of them.
    attributes
        Shape (n, d), float64, finite.
    labels
        Shape (n,): for classification the index into ``classes``, int64; for
        regression the value, float64.
    classes
        Names of the classes in ascending order; empty for regression.
    """

    name: str
    columns: list[str]
    attributes: NDArray[np.float64]
    labels: NDArray[np.int64] | NDArray[np.float64]
    classes: list[str]


@dataclass(frozen=True)
class Builtin:
    """A data set that comes with the service, as ``GET /datasets`` describes it."""

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


@dataclass(frozen=True)
class Limits:
    """How large a table may be."""

    rows: int
    columns: int


def load(params: KnnParams, uploads: dict[str, Path], limits: Limits) -> Dataset:
    """Read the data set of a knn job.

    Parameters
    ----------
    params
        The job's parameters.
    uploads
        Upload id to file, for the upload that ``params`` may name.
    limits
        How large the table may be.

    Raises
    ------
    RequestInvalidError
        Naming the field and, where it helps, the line of the file.
    """
    if isinstance(params.dataset, BuiltinDataset):
        builtin = BUILTINS[params.dataset.name]
        rows = _read_rows((DATA_FOLDER / builtin.file).read_bytes(), limits)
        return _build(builtin.title, list(builtin.columns), rows, label=0, task=params.task, first_line=1)
    path = uploads[params.dataset.upload]
    rows = _read_rows(path.read_bytes(), limits)
    names = _read_header(rows, params.dataset)
    label = _find_label(names, params.dataset)
    columns = [name for index, name in enumerate(names) if index != label]
    first_line = 2 if params.dataset.header else 1
    return _build("Uploaded table", columns, rows, label=label, task=params.task, first_line=first_line)


def check(params: KnnParams, dataset: Dataset) -> None:
    """Raise where the parameters ask what the data set cannot give.

    Raises
    ------
    RequestInvalidError
        With every problem found.
    """
    n = len(dataset.labels)
    problems: list[Problem] = []
    evaluation = params.evaluation
    if isinstance(evaluation, Holdout):
        n_train = evaluation.train_size
        if n_train >= n:
            problems.append(
                Problem(
                    "/params/evaluation/train_size",
                    f"leaves nothing to predict: the data set has {n} rows; give 1 to {n - 1}",
                )
            )
    elif isinstance(evaluation, KFold):
        n_train = n - -(-n // evaluation.folds)
        if evaluation.folds > n:
            problems.append(Problem("/params/evaluation/folds", f"is more than the data set's {n} rows; give 2 to {n}"))
    else:
        n_train = n - 1
    if not problems and max(params.ks) > n_train:
        problems.append(
            Problem("/params/k", f"is more than the {n_train} rows of the training part; give 1 to {n_train}")
        )
    if params.metric is Metric.BHATTACHARYYA and params.normalise is Normalisation.NONE:
        problems += _find_non_distributions(dataset)
    if problems:
        raise RequestInvalidError(problems)


def _find_non_distributions(dataset: Dataset) -> list[Problem]:
    rows, columns = np.nonzero(dataset.attributes < 0)
    if len(rows):
        where = f"row {rows[0]} has a negative {dataset.columns[columns[0]]!r}"
    else:
        (empty,) = np.nonzero(dataset.attributes.sum(axis=1) == 0)
        if not len(empty):
            return []
        where = f"row {empty[0]} has only zeros"
    return [Problem("/params/metric", f"bhattacharyya reads rows as distributions, and {where}; take another metric")]


def _read_rows(content: bytes, limits: Limits) -> list[list[str]]:
    """Split a CSV file into rows of equal length, blank lines left out at the end."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(_decode(content), newline="")):
            rows.append(row)
            if len(rows) > limits.rows + 1:  # one may be the header
                raise RequestInvalidError.at(UPLOAD, f"the table has more than {limits.rows} rows; upload fewer")
    except csv.Error as error:
        raise RequestInvalidError.at(UPLOAD, f"line {len(rows) + 1} is not CSV: {error}") from error
    while rows and not any(cell.strip() for cell in rows[-1]):
        rows.pop()
    _check_shape(rows, limits)
    return rows


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestInvalidError.at(
            UPLOAD, f"the file is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    if "\0" in text:
        raise RequestInvalidError.at(UPLOAD, "the file is binary, not a table; upload comma-separated text")
    return text


def _check_shape(rows: list[list[str]], limits: Limits) -> None:
    if not rows:
        raise RequestInvalidError.at(UPLOAD, "the file is empty; upload a table with a row per sample")
    width = len(rows[0])
    if width > limits.columns:
        raise RequestInvalidError.at(UPLOAD, f"the table has {width} columns, more than {limits.columns}; upload fewer")
    if width == 1:
        raise RequestInvalidError.at(
            UPLOAD, "the table has one column; it needs a label and an attribute, separated by commas"
        )
    for line, row in enumerate(rows, start=1):
        if len(row) != width:
            raise RequestInvalidError.at(
                UPLOAD, f"line {line} has {len(row)} cells where line 1 has {width}; make them equal"
            )


def _read_header(rows: list[list[str]], dataset: UploadedDataset) -> list[str]:
    """Name the columns: from the first row, which is taken away, or by number."""
    if not dataset.header:
        return [f"column {index}" for index in range(len(rows[0]))]
    names = [name.strip() for name in rows.pop(0)]
    if not rows:
        raise RequestInvalidError.at(UPLOAD, "the file has a header and no rows; add rows")
    return names


def _find_label(names: list[str], dataset: UploadedDataset) -> int:
    width = len(names)
    if isinstance(dataset.label, int):
        if not -width <= dataset.label < width:
            raise RequestInvalidError.at(LABEL, f"there is no column {dataset.label}; the columns are 0 to {width - 1}")
        return dataset.label % width
    if not dataset.header:
        raise RequestInvalidError.at(LABEL, f"the file has no header, so give the column's index, 0 to {width - 1}")
    found = [index for index, name in enumerate(names) if name == dataset.label]
    if not found:
        known = ", ".join(repr(name) for name in names[:20])
        raise RequestInvalidError.at(LABEL, f"there is no column {dataset.label!r}; the columns are {known}")
    if len(found) > 1:
        raise RequestInvalidError.at(
            LABEL, f"{len(found)} columns are called {dataset.label!r}; give the index instead"
        )
    return found[0]


def _build(  # noqa: PLR0913 - the parts of a table
    name: str, columns: list[str], rows: list[list[str]], *, label: int, task: Task, first_line: int
) -> Dataset:
    cells = [row.pop(label).strip() for row in rows]
    attributes = np.column_stack(
        [_read_numbers([row[j] for row in rows], column, first_line, UPLOAD) for j, column in enumerate(columns)]
    )
    if task is Task.REGRESSION:
        return Dataset(name, columns, attributes, _read_numbers(cells, "label", first_line, LABEL), [])
    if "" in cells:
        raise RequestInvalidError.at(LABEL, f"line {cells.index('') + first_line} has no label; fill it in")
    classes = _order_classes(set(cells))
    if len(classes) == 1:
        raise RequestInvalidError.at(
            LABEL, f"every row has the label {classes[0]!r}; classification needs two classes or more"
        )
    index = {name: position for position, name in enumerate(classes)}
    return Dataset(name, columns, attributes, np.array([index[cell] for cell in cells], np.int64), classes)


def _order_classes(names: set[str]) -> list[str]:
    """Sort by number where all are numbers, so that class 10 comes after class 9."""
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)


def _read_numbers(cells: list[str], column: str, first_line: int, pointer: str) -> NDArray[np.float64]:
    """Convert one column; blame the first cell that is not a finite number."""
    try:
        numbers = np.array(cells, dtype=np.str_).astype(np.float64)
    except ValueError:
        numbers = np.array([_read_number(cell) for cell in cells])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        line = int(bad[0]) + first_line
        raise RequestInvalidError.at(
            pointer,
            f"line {line}, column {column!r}: {cells[bad[0]]!r} is not a finite number; mend the file",
        )
    return numbers


def _read_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan
