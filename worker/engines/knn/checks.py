"""Checks that parameters and data set fit together, and what a user should know about a job that succeeds.

The submission makes the same checks by the facts of the inspection. Here the rows are known that are really used.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from shared.errors import Problem, RequestInvalidError
from shared.kinds.knn.parameters import KnnParams, LeaveOneOut, Metric, Normalisation
from shared.kinds.knn.resolution import MAX_ENCODED_CELLS, judge_class, judge_sizes
from shared.kinds.knn.selection import DATASET, name_columns
from shared.texts import Text, text
from worker.engines.knn.dataset import Dataset, Encoding
from worker.engines.knn.preparation import Prepared

MAX_SPREAD_RATIO: Final = 100
SCALE_FREE: Final = frozenset({Metric.HAMMING, Metric.MAHALANOBIS})
"""The metrics that do not depend on the units of the attributes."""


def check(params: KnnParams, dataset: Dataset) -> None:
    """Check that the parameters are possible for the data set.

    Raises
    ------
    RequestInvalidError
        The data set does not allow a parameter. The error contains every such parameter.
    """
    problems = [*judge_sizes(params, len(dataset.labels)), *_judge_width(dataset)]
    evaluation = params.evaluation
    if params.is_stratified and not isinstance(evaluation, LeaveOneOut) and evaluation.stratify is True:
        small = _count_small_classes(dataset, evaluation.min_class_rows)
        problems += [judge_class(name, count, evaluation.min_class_rows) for name, count in list(small.items())[:1]]
    if params.metric is Metric.BHATTACHARYYA and params.normalise is Normalisation.NONE:
        problems += _judge_distributions(dataset)
    if problems:
        raise RequestInvalidError(problems)


def list_warnings(params: KnnParams, prepared: Prepared) -> list[dict[str, Any]]:
    """List what a user should know, as stored texts."""
    dataset, report = prepared.dataset, prepared.report
    warnings: list[Text] = []
    if report["dropped_without_label"]:
        warnings.append(text("rows-without-label", count=report["dropped_without_label"]))
    if report["dropped_with_gaps"]:
        warnings.append(text("rows-with-gaps", count=report["dropped_with_gaps"]))
    if params.is_stratified and not isinstance(params.evaluation, LeaveOneOut):
        min_rows = params.evaluation.min_class_rows
        small = _count_small_classes(dataset, min_rows)
        if small:
            warnings.append(text("classes-spread", classes=name_columns(small), min_rows=min_rows))
    unscaled = params.normalise is Normalisation.NONE and params.metric not in SCALE_FREE
    warnings += [*(_compare_spreads(dataset) if unscaled else ()), *_find_identifiers(prepared)]
    return [warning.serialize() for warning in warnings]


def _judge_width(dataset: Dataset) -> Iterator[Problem]:
    onehot = [len(coded.values) for coded in dataset.coded.values() if coded.encoding is Encoding.ONEHOT]
    cells = len(dataset.labels) * (len(dataset.columns) - len(onehot) + sum(onehot))
    if cells > MAX_ENCODED_CELLS:
        yield Problem(f"{DATASET}/text_columns", text("columns-too-wide", cells=cells, max_cells=MAX_ENCODED_CELLS))


def _count_small_classes(dataset: Dataset, min_rows: int) -> dict[str, int]:
    """Return the classes with fewer rows, and the number of their rows; a class without rows is not a small one."""
    counts = np.bincount(np.asarray(dataset.labels, np.int64), minlength=len(dataset.classes)).tolist()
    return {name: count for name, count in zip(dataset.classes, counts, strict=True) if 0 < count < min_rows}


def _judge_distributions(dataset: Dataset) -> Iterator[Problem]:
    negative = [name for name, least in zip(dataset.columns, _find_least(dataset), strict=True) if least < 0]
    if negative:
        yield Problem("/params/metric", text("bhattacharyya-negative", columns=name_columns(negative)))
    elif not dataset.coded:
        (empty,) = np.nonzero((dataset.attributes == 0).all(axis=1))
        if len(empty):
            row = int(dataset.find_rows(empty)[0])
            yield Problem("/params/metric", text("bhattacharyya-zeros", row=row))


def _find_least(dataset: Dataset) -> list[float]:
    values: list[float] = np.nanmin(dataset.attributes, axis=0).tolist()
    return values


def _compare_spreads(dataset: Dataset) -> Iterator[Text]:
    """Warn if the attributes that are numbers have very different spreads, so that one of them decides alone."""
    numbers = [index for index in range(len(dataset.columns)) if index not in dataset.coded]
    spreads = {index: float(np.nanstd(dataset.attributes[:, index])) for index in numbers}
    # The mean of equal numbers is rounded, so their standard deviation may not be 0.
    varying = [
        index for index in numbers if np.nanmin(dataset.attributes[:, index]) < np.nanmax(dataset.attributes[:, index])
    ]
    if not varying:
        return
    widest, narrowest = max(varying, key=spreads.__getitem__), min(varying, key=spreads.__getitem__)
    if spreads[widest] >= MAX_SPREAD_RATIO * spreads[narrowest]:
        names = {"widest": dataset.columns[widest], "narrowest": dataset.columns[narrowest]}
        yield text("spreads-differ", ratio=spreads[widest] / spreads[narrowest], **names)


def _find_identifiers(prepared: Prepared) -> Iterator[Text]:
    """Warn of integers that all differ: they may only name the rows."""
    dataset = prepared.dataset
    integers = {column["column"] for column in prepared.report["columns"] if column["type"] == "integer"}
    for index, name in enumerate(dataset.columns):
        values = dataset.attributes[:, index]
        if name in integers and index not in dataset.coded and len(np.unique(values)) == len(values):
            yield text("integers-all-differ", column=name)
