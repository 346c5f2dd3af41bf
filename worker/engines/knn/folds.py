"""How the rows are divided into known rows and rows to predict."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.kinds.knn.parameters import Holdout, KFold, LeaveOneOut
from worker.engines.knn.space import Indices


@dataclass(frozen=True)
class Fold:
    """One training part, and the rows that are predicted from this training part.

    Parameters
    ----------
    number
        The number of the fold, from 0; a further repeat continues the numbers of the repeat before it.
    training, queries
        Indices of rows in the data set, in ascending order. So, of two rows, the one with
        the lower position in ``training`` also has the lower index in the data set.
    """

    number: int
    training: Indices
    queries: Indices


@dataclass(frozen=True)
class Strata:
    """The classes of which each part is to have the same share.

    Parameters
    ----------
    labels
        The index of each row's class, shape (n,).
    order
        The rows in an order that does not depend on the file, shape (n,); see `row_order.sort_by_content`.
    """

    labels: Indices
    order: Indices


def split(evaluation: Holdout | KFold | LeaveOneOut, count: int, strata: Strata | None = None) -> Iterator[Fold]:
    """Yield the folds of an evaluation of ``count`` rows; with ``strata``, each part has the same share of each class.

    Stratified folds are those of scikit-learn's ``StratifiedKFold`` up to the random numbers. It sorts the labels, and
    deals them out to the folds in turn, which gives the number of rows of each class in each fold. Which rows these are
    is random: here by NumPy's generator, seeded with the seed and the number of the repeat, there (with ``shuffle``) by
    another one.
    """
    if isinstance(evaluation, Holdout):
        n_train = evaluation.count_training(count)
        order = np.random.default_rng(evaluation.seed).permutation(count)
        queries = order[n_train:] if strata is None else _draw_stratified(strata, order, n_train)
        yield _make_fold(0, queries, count)
    elif isinstance(evaluation, KFold):
        for repeat in range(evaluation.repeats):
            order = np.random.default_rng([evaluation.seed, repeat]).permutation(count)
            if strata is None:
                parts = np.array_split(order, evaluation.folds)
            else:
                parts = _deal_stratified(strata, order, evaluation.folds)
            for number, queries in enumerate(parts):
                yield _make_fold(repeat * evaluation.folds + number, queries, count)
    else:
        for row in range(count):
            yield _make_fold(row, np.array([row]), count)


def count_predictions(evaluation: Holdout | KFold | LeaveOneOut, count: int) -> int:
    """Count the predictions of all folds together."""
    if isinstance(evaluation, Holdout):
        return count - evaluation.count_training(count)
    return count * (evaluation.repeats if isinstance(evaluation, KFold) else 1)


def count_training(evaluation: Holdout | KFold | LeaveOneOut, count: int) -> int:
    """Count the rows in the smallest of the training parts of all folds."""
    if isinstance(evaluation, Holdout):
        return evaluation.count_training(count)
    if isinstance(evaluation, KFold):
        return count - -(-count // evaluation.folds)
    return count - 1


def _deal_stratified(strata: Strata, order: Indices, folds: int) -> list[Indices]:
    """Deal the rows of each class out to the folds; ``order`` is a random order of all positions, shape (n,)."""
    in_turn = np.sort(strata.labels)
    shuffled = strata.order[order]
    by_class = shuffled[np.argsort(strata.labels[shuffled], kind="stable")]
    classes = int(in_turn[-1]) + 1
    sizes = [np.bincount(in_turn[number::folds], minlength=classes) for number in range(folds)]
    # The rows of a class are consecutive in `by_class`: first those of fold 0, then those of fold 1 …
    owners = np.repeat(np.tile(np.arange(folds), classes), np.transpose(sizes).ravel())
    return [by_class[owners == number] for number in range(folds)]


def _draw_stratified(strata: Strata, order: Indices, n_train: int) -> Indices:
    """Draw the rows to predict, so that each class has the same share of them, rounded to whole rows."""
    shuffled = strata.order[order]
    by_class = shuffled[np.argsort(strata.labels[shuffled], kind="stable")]
    counts = np.bincount(strata.labels)
    known = _apportion(counts, n_train)
    position = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    queries: Indices = by_class[position >= np.repeat(known, counts)]
    return queries


def _apportion(counts: NDArray[np.int64], seats: int) -> NDArray[np.int64]:
    """Divide ``seats`` in proportion to ``counts``; the largest remainders are rounded up, of equal ones the first."""
    exact = counts * seats / counts.sum()
    shares = np.floor(exact).astype(np.int64)
    remaining = seats - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:remaining]] += 1
    return np.asarray(shares)


def _make_fold(number: int, queries: Indices, count: int) -> Fold:
    known = np.ones(count, np.bool_)
    known[queries] = False
    return Fold(number, np.flatnonzero(known), np.flatnonzero(~known))
