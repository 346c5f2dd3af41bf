"""Makes all predictions of an evaluation, fold by fold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final

import numpy as np

from shared.errors import JobFailedError
from shared.kinds.knn.parameters import KnnParams, LeaveOneOut, Metric, Normalisation, Task, Ties
from shared.kinds.knn.resolution import MAX_ABSOLUTE_VALUE, MAX_CLASSES
from shared.texts import text
from worker.engines.knn import encoding
from worker.engines.knn.dataset import Dataset, is_encoded_alike
from worker.engines.knn.folds import Fold, Strata, count_predictions, split
from worker.engines.knn.metrics import build_space
from worker.engines.knn.row_order import place_ties, sort_by_content
from worker.engines.knn.search import Finder, Neighbours
from worker.engines.knn.space import Floats, Indices, Labels, Space
from worker.engines.knn.votes import average, elect, weigh

QUERIES_AT_ONCE: Final = 512
"""The number of queries whose votes are counted at a time; the counts take memory, one for each query and class."""


@dataclass(frozen=True)
class Predictions:
    """All m predictions of an evaluation, in the order of the folds.

    Parameters
    ----------
    index
        Shape (m,): for each prediction, the index of the predicted row in the data set.
    fold
        Shape (m,): the number of the fold that each prediction comes from.
    neighbours, distances
        Shape (m, largest k): the neighbours of each predicted row, given by their
        indices in the data set, and their distances; the nearest neighbour is first.
    labels
        For each k, the predicted labels, shape (m,). A label that is a class is
        given by its index in ``Dataset.classes``.
    """

    index: Indices
    fold: Indices
    neighbours: Indices
    distances: Floats
    labels: dict[int, Labels]


def evaluate(params: KnnParams, dataset: Dataset, finder: Finder, advance: Callable[[int, int], None]) -> Predictions:
    """Make all predictions of the evaluation.

    Parameters
    ----------
    params
        The job's parameters, which fit the data set.
    dataset
        Table and labels.
    finder
        Finds the neighbours.
    advance
        Called again and again, with the number of predictions that are done and
        the number of all predictions.

    Raises
    ------
    JobFailedError
        The metric is not defined on the scaled values, values are out of range,
        or there are too many classes.
    """
    _check_range(dataset)
    total = count_predictions(params.evaluation, len(dataset.labels))
    predictions = _allocate(params, dataset, total)
    progress = _Progress(advance, total)
    for fold, neighbours in _find_by_fold(params, dataset, finder, progress.show):
        part = slice(progress.done, progress.done + len(fold.queries))
        predictions.index[part] = fold.queries
        predictions.fold[part] = fold.queries if isinstance(params.evaluation, LeaveOneOut) else fold.number
        predictions.neighbours[part] = fold.training[neighbours.rows]
        predictions.distances[part] = neighbours.distances
        progress.done = part.stop
        _vote(params, dataset, predictions, part, progress.show)
    return predictions


class _Progress:
    """Counts the predictions that are done in all folds together."""

    def __init__(self, advance: Callable[[int, int], None], total: int) -> None:
        self._advance = advance
        self._total = total
        self.done = 0

    def show(self, more: int) -> None:
        """Report the predictions in all finished folds, plus ``more`` predictions in the next fold."""
        self._advance(self.done + more, self._total)


def _check_range(dataset: Dataset) -> None:
    """Refuse values whose squares may leave the range of float64, and more than `MAX_CLASSES` classes."""
    if len(dataset.classes) > MAX_CLASSES:
        raise JobFailedError(
            "too-many-classes",
            text("label-too-many-classes", classes=len(dataset.classes), max_classes=MAX_CLASSES),
        )
    for values in (dataset.attributes, dataset.labels):
        if (np.abs(values) > MAX_ABSOLUTE_VALUE).any():
            raise JobFailedError(
                "values-too-large",
                text("values-too-large", max_value=MAX_ABSOLUTE_VALUE),
            )


def _allocate(params: KnnParams, dataset: Dataset, total: int) -> Predictions:
    max_k = max(params.ks)
    return Predictions(
        index=np.empty(total, np.int64),
        fold=np.empty(total, np.int64),
        neighbours=np.empty((total, max_k), np.int64),
        distances=np.empty((total, max_k)),
        labels={k: np.empty_like(dataset.labels, shape=total) for k in params.ks},
    )


@dataclass(frozen=True)
class _Arrangement:
    """What the content of the rows decides: the places of ties (see `row_order.place_ties`), and the strata of folds.

    Each is None if the parameters do not ask for it.
    """

    places: Indices | None
    strata: Strata | None

    @classmethod
    def make(cls, params: KnnParams, dataset: Dataset) -> "_Arrangement":
        if params.ties is Ties.ORDER and not params.is_stratified:
            return cls(None, None)
        order = sort_by_content(dataset)
        places = None if params.ties is Ties.ORDER else place_ties(order, params.evaluation.seed)
        strata = Strata(np.asarray(dataset.labels, np.int64), order) if params.is_stratified else None
        return cls(places, strata)

    def sort(self, rows: Indices) -> Indices:
        """Sort rows by their places."""
        return rows if self.places is None else rows[np.argsort(self.places[rows])]

    def find_first(self, training: Indices, queries: Indices) -> Indices | None:
        """Return for each query the position in ``training``, which is sorted, of the first row after its own place."""
        return None if self.places is None else np.searchsorted(self.places[training], self.places[queries])


def _find_by_fold(
    params: KnnParams, dataset: Dataset, finder: Finder, advance: Callable[[int], None]
) -> Iterator[tuple[Fold, Neighbours]]:
    """Yield each fold with the neighbours of its queries; a neighbour is given by its position in the training part.

    The rows of a training part are in the order in which ties rank them. With leave-one-out, all rows form a single
    fold if neither encoding nor metric depends on the training part. Before a fold is yielded, ``advance`` is called
    with the number of queries of this fold that are done.
    """
    k = max(params.ks)
    arrangement = _Arrangement.make(params, dataset)
    if (
        isinstance(params.evaluation, LeaveOneOut)
        and params.normalise is Normalisation.NONE
        and params.metric is not Metric.MAHALANOBIS
        and is_encoded_alike(dataset)
    ):
        yield _find_at_once(params, dataset, arrangement, partial(finder.find, k=k, advance=advance))
        return
    folds = (
        replace(fold, training=arrangement.sort(fold.training))
        for fold in split(params.evaluation, len(dataset.labels), arrangement.strata)
    )
    for fold in folds:
        spaces = [_build_fold(params, dataset, fold, arrangement)]
        together = [fold, *islice(folds, finder.plan(spaces[0], k).stacked - 1)]
        for another in together[1:]:
            spaces.append(_build_fold(params, dataset, another, arrangement))
            advance(0)
        yield from zip(together, finder.find_stacked(spaces, k, advance), strict=True)


def _find_at_once(
    params: KnnParams, dataset: Dataset, arrangement: _Arrangement, find: Callable[..., Neighbours]
) -> tuple[Fold, Neighbours]:
    """Find the neighbours of all rows among all other rows."""
    everything = np.arange(len(dataset.labels))
    training = arrangement.sort(everything)
    rows = _encode(params, dataset, training, training)[0]
    space = replace(build_space(params, rows, rows), first=arrangement.find_first(training, training))
    found = find(space, leave_one_out=True)
    if arrangement.places is not None:
        back = np.argsort(training)
        found = Neighbours(found.rows[back], found.distances[back])
    return Fold(0, training, everything), found


def _build_fold(params: KnnParams, dataset: Dataset, fold: Fold, arrangement: _Arrangement) -> Space:
    """Encode all rows of a fold by what is fitted to its training part, and lay them out for the metric."""
    training, queries = _encode(params, dataset, fold.training, fold.queries)
    space = build_space(params, training, queries)
    return replace(space, first=arrangement.find_first(fold.training, fold.queries))


def _encode(params: KnnParams, dataset: Dataset, training: Indices, queries: Indices) -> tuple[Floats, Floats]:
    known, wanted = dataset.attributes[training], dataset.attributes[queries]
    fitted = encoding.fit(dataset, known, params.normalise)
    return (known, wanted) if fitted is None else (fitted.apply(known), fitted.apply(wanted))


def _vote(
    params: KnnParams, dataset: Dataset, predictions: Predictions, part: slice, advance: Callable[[int], None]
) -> None:
    """For every k, fill in the labels in ``part`` of the predictions, in which the neighbours are filled in already."""
    for start in range(part.start, part.stop, QUERIES_AT_ONCE):
        some = slice(start, min(start + QUERIES_AT_ONCE, part.stop))
        labels = dataset.labels[predictions.neighbours[some]]
        weights = weigh(predictions.distances[some], params.weights)
        for k, predicted in predictions.labels.items():
            if params.task is Task.CLASSIFICATION:
                predicted[some] = elect(labels[:, :k], weights[:, :k], len(dataset.classes))
            else:
                predicted[some] = average(labels[:, :k], weights[:, :k])
        advance(0)
