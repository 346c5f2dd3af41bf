"""How the rows are divided into known rows and rows to predict."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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


def split(evaluation: Holdout | KFold | LeaveOneOut, count: int) -> Iterator[Fold]:
    """Yield the folds of an evaluation of ``count`` rows."""
    if isinstance(evaluation, Holdout):
        order = np.random.default_rng(evaluation.seed).permutation(count)
        yield _make_fold(0, order[evaluation.train_size :], count)
    elif isinstance(evaluation, KFold):
        for repeat in range(evaluation.repeats):
            order = np.random.default_rng([evaluation.seed, repeat]).permutation(count)
            for number, queries in enumerate(np.array_split(order, evaluation.folds)):
                yield _make_fold(repeat * evaluation.folds + number, queries, count)
    else:
        for row in range(count):
            yield _make_fold(row, np.array([row]), count)


def count_predictions(evaluation: Holdout | KFold | LeaveOneOut, count: int) -> int:
    """Count the predictions of all folds together."""
    if isinstance(evaluation, Holdout):
        return count - evaluation.train_size
    return count * (evaluation.repeats if isinstance(evaluation, KFold) else 1)


def count_training(evaluation: Holdout | KFold | LeaveOneOut, count: int) -> int:
    """Count the rows in the smallest of the training parts of all folds."""
    if isinstance(evaluation, Holdout):
        return evaluation.train_size
    if isinstance(evaluation, KFold):
        return count - -(-count // evaluation.folds)
    return count - 1


def _make_fold(number: int, queries: Indices, count: int) -> Fold:
    known = np.ones(count, np.bool_)
    known[queries] = False
    return Fold(number, np.flatnonzero(known), np.flatnonzero(~known))
