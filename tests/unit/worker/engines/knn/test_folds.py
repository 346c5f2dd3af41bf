import numpy as np
import pytest

from shared.kinds.knn.parameters import Holdout, KFold, LeaveOneOut
from worker.engines.knn.folds import count_predictions, count_training, split

EVALUATIONS = [
    Holdout(train_size=20, seed=3),
    KFold(method="kfold", folds=4, repeats=3, seed=3),
    LeaveOneOut(method="loo"),
]


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.method)
def test_in_every_fold_each_row_is_either_a_training_row_or_a_query(evaluation: Holdout | KFold | LeaveOneOut) -> None:
    folds = list(split(evaluation, 30))
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.training, fold.queries])), np.arange(30))
        assert (np.diff(fold.training) > 0).all()
        assert (np.diff(fold.queries) > 0).all()
    assert [fold.number for fold in folds] == list(range(len(folds)))
    assert count_predictions(evaluation, 30) == sum(len(fold.queries) for fold in folds)
    assert count_training(evaluation, 30) == min(len(fold.training) for fold in folds)


@pytest.mark.parametrize("evaluation", EVALUATIONS[1:], ids=lambda evaluation: evaluation.method)
def test_folds_predict_each_row_once_per_repeat(evaluation: KFold | LeaveOneOut) -> None:
    repeats = evaluation.repeats if isinstance(evaluation, KFold) else 1
    covered = np.concatenate([fold.queries for fold in split(evaluation, 31)])
    np.testing.assert_array_equal(np.bincount(covered), np.full(31, repeats))


def test_holdout_trains_on_the_first_rows_of_the_permutation() -> None:
    (fold,) = split(Holdout(train_size=128, seed=7), 178)
    order = np.random.default_rng(7).permutation(178)
    assert set(fold.training) == set(order[:128])


def test_folds_differ_between_seeds_and_repeats_and_can_be_reproduced() -> None:
    def list_queries(seed: int) -> list[list[int]]:
        evaluation = KFold(method="kfold", folds=2, repeats=2, seed=seed)
        return [fold.queries.tolist() for fold in split(evaluation, 40)]

    first = list_queries(1)
    assert first == list_queries(1)
    assert first != list_queries(2)
    assert first[:2] != first[2:]
