"""Rows at equal distance are ranked by a random order that does not depend on the order of the rows in the file."""

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from shared.kinds.knn.parameters import Holdout, KFold, KnnParams
from tests.support.titanic import list_people
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions, evaluate
from worker.engines.knn.folds import Strata, split
from worker.engines.knn.row_order import place_ties, sort_by_content
from worker.engines.knn.search import Finder

FIVE_FOLDS = {"method": "kfold", "folds": 5}


def make_titanic() -> Dataset:
    """Make a table of 2,201 rows with 14 different contents, sorted by the label: the survivors first."""
    cells = np.array(list_people(), np.float64)
    return Dataset("Titanic", ["class", "age", "sex"], cells[:, :3], cells[:, 3].astype(np.int64), ["no", "yes"])


def reorder(dataset: Dataset, order: Any) -> Dataset:
    return Dataset(dataset.name, dataset.columns, dataset.attributes[order], dataset.labels[order], dataset.classes)


def run(dataset: Dataset, finder: Finder, **params: Any) -> Predictions:
    validated = KnnParams.model_validate({"task": "classification", **params})
    return evaluate(validated, dataset, finder, lambda _done, _total: None)


def score(dataset: Dataset, finder: Finder, **params: Any) -> list[float]:
    found = run(dataset, finder, k=[1, 5, 15], normalise="zscore", **params)
    return [float((labels == dataset.labels[found.index]).mean()) for labels in found.labels.values()]


def test_the_score_does_not_depend_on_the_order_of_the_rows(finder: Finder) -> None:
    titanic = make_titanic()
    assert len(titanic.labels) == 2_201
    first = score(titanic, finder, evaluation=FIVE_FOLDS)
    assert all(0.68 <= accuracy <= 0.791 for accuracy in first)
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(titanic.labels))
        assert score(reorder(titanic, order), finder, evaluation=FIVE_FOLDS) == first


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_seed_makes_a_single_row_decide_for_all(seed: int, finder: Finder) -> None:
    """If all queries started at the same row, one neighbour would be right in 48 % to 77 % of the rows."""
    assert all(0.68 <= each <= 0.8 for each in score(make_titanic(), finder, evaluation=FIVE_FOLDS | {"seed": seed}))


@pytest.mark.parametrize("evaluation", [{"method": "loo"}, {"train_size": 0.7}], ids=str)
def test_ties_are_shuffled_in_every_evaluation(evaluation: dict[str, Any], finder: Finder) -> None:
    titanic = make_titanic()
    assert all(0.65 <= accuracy <= 0.82 for accuracy in score(titanic, finder, evaluation=evaluation))
    assert score(titanic, finder, evaluation=evaluation, ties="order")[0] < 0.6


def test_leave_one_out_in_a_single_search_ranks_ties_as_fold_by_fold(finder: Finder) -> None:
    rng = np.random.default_rng(3)
    dataset = Dataset(
        "coarse", ["x", "y"], rng.integers(0, 3, (70, 2)).astype(np.float64), rng.integers(0, 2, 70), ["a", "b"]
    )
    at_once = run(dataset, finder, k=6, evaluation={"method": "loo", "seed": 5})
    np.testing.assert_array_equal(at_once.index, np.arange(70))
    gap = reorder(dataset, np.arange(70))
    gap.attributes[:] = dataset.attributes
    places = place_ties(sort_by_content(dataset), 5)
    for row in range(70):
        others = np.setdiff1d(np.arange(70), [row])
        distances = np.linalg.norm(dataset.attributes[others] - dataset.attributes[row], axis=1)
        ranked = others[np.lexsort(((places[others] - places[row]) % 70, distances))]
        np.testing.assert_array_equal(at_once.neighbours[row], ranked[:6])


def test_every_fold_ranks_ties_by_the_same_places(finder: Finder) -> None:
    rng = np.random.default_rng(8)
    dataset = Dataset("coarse", ["x"], rng.integers(0, 4, (90, 1)).astype(np.float64), rng.integers(0, 3, 90), [*"abc"])
    found = run(dataset, finder, k=7, evaluation={"method": "kfold", "folds": 3, "repeats": 2, "seed": 4})
    places = place_ties(sort_by_content(dataset), 4)
    for number, row in enumerate(found.index.tolist()):
        part = (found.fold == found.fold[number]).nonzero()[0]
        known = np.setdiff1d(np.arange(90), found.index[part])
        distances = np.abs(dataset.attributes[known, 0] - dataset.attributes[row, 0])
        ranked = known[np.lexsort(((places[known] - places[row]) % 90, distances))]
        np.testing.assert_array_equal(found.neighbours[number], ranked[:7])


def test_values_of_a_regression_beyond_the_range_of_integers_are_predicted(finder: Finder) -> None:
    dataset = Dataset("large", ["x"], np.array([[0.0], [1.0], [2.0]]), np.array([1e100, 2e100, -1e120]), [])
    found = run(dataset, finder, k=1, task="regression", evaluation={"method": "loo"})
    assert found.labels[1][2] == 2e100


def test_numbers_that_differ_by_rounding_have_the_same_place() -> None:
    written = np.array([[1.7, 1], [0.3, 2], [1.7, 3], [0.3, 4]])
    computed = written + np.array([[2.0**-52, 0], [2.0**-54, 0], [0, 0], [0, 0]])
    labels = np.array([0, 1, 1, 0])
    first, second = (Dataset("t", ["x", "y"], cells, labels, ["a", "b"]) for cells in (written, computed))
    np.testing.assert_array_equal(sort_by_content(first), sort_by_content(second))


@pytest.mark.parametrize("stratify", ["auto", True])
def test_stratified_folds_have_the_sizes_of_those_of_scikit_learn(stratify: object) -> None:
    labels = np.sort(np.random.default_rng(1).choice(4, 97, p=[0.5, 0.3, 0.1, 0.1]))
    params = KnnParams.model_validate(
        {"task": "classification", "evaluation": {"method": "kfold", "folds": 3, "stratify": stratify}}
    )
    assert params.is_stratified
    order = np.random.default_rng(2).permutation(97)
    folds = [*split(params.evaluation, 97, Strata(labels, order))]
    peers = StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels)
    for fold, (_, queries) in zip(folds, peers, strict=True):
        np.testing.assert_array_equal(
            np.bincount(labels[fold.queries], minlength=4), np.bincount(labels[queries], minlength=4)
        )
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.queries for fold in folds])), np.arange(97))


def test_predictions_in_stratified_folds_equal_those_of_scikit_learn_in_the_same_folds(finder: Finder) -> None:
    rng = np.random.default_rng(6)
    labels = np.sort(rng.choice(3, 150, p=[0.6, 0.3, 0.1]))
    dataset = Dataset("sorted", ["x", "y"], rng.normal(labels[:, None], 1, (150, 2)), labels, ["a", "b", "c"])
    found = run(dataset, finder, k=4, normalise="zscore", evaluation={"method": "kfold", "folds": 5})
    for fold in range(5):
        queries = found.index[found.fold == fold]
        known = np.setdiff1d(np.arange(150), queries)
        assert np.bincount(labels[queries]).tolist() == pytest.approx(np.bincount(labels) / 5, abs=1)
        scaler = StandardScaler().fit(dataset.attributes[known])
        peer = KNeighborsClassifier(4, algorithm="brute").fit(
            scaler.transform(dataset.attributes[known]), labels[known]
        )
        expected = peer.predict(scaler.transform(dataset.attributes[queries]))
        np.testing.assert_array_equal(found.labels[4][found.fold == fold], expected)


@pytest.mark.parametrize("n_train", [60, 61, 77])
def test_a_stratified_holdout_has_the_sizes_of_that_of_scikit_learn(n_train: int) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 21])
    (fold,) = split(Holdout(train_size=n_train, stratify=True), 101, Strata(labels, np.arange(101)))
    known, _ = train_test_split(labels, train_size=n_train, stratify=labels, random_state=0)
    np.testing.assert_allclose(np.bincount(labels[fold.training]), np.bincount(known), atol=1)
    assert len(fold.training) == n_train


def test_classes_that_are_smaller_than_the_folds_are_spread() -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 1])
    folds = [*split(KFold(method="kfold", folds=5), 14, Strata(labels, np.arange(14)))]
    assert max(np.count_nonzero(labels[fold.queries] == 1) for fold in folds) == 1
    assert sorted(len(fold.queries) for fold in folds) == [2, 3, 3, 3, 3]
