"""Predictions equal those of scikit-learn and SciPy, row by row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from shared.errors import JobFailedError, JobStoppedError
from shared.kinds.knn.parameters import KnnParams
from shared.texts import text
from tests.unit.worker.engines.knn.reference import (
    METRICS,
    bhattacharyya,
    find_distances,
    find_neighbours,
    name_metric,
    predict,
)
from worker.engines.knn.cells import Cells
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions, evaluate
from worker.engines.knn.folds import split
from worker.engines.knn.search import Finder

LOO = {"method": "loo"}
FIGURES: list[tuple[dict[str, Any], int]] = [
    ({"k": 1, "metric": "euclidean", "normalise": "zscore"}, 170),
    ({"k": 5, "metric": "euclidean", "normalise": "none"}, 124),
    ({"k": 5, "metric": "euclidean", "normalise": "zscore", "weights": "distance"}, 173),
    ({"k": 7, "metric": "manhattan", "normalise": "minmax", "weights": "distance"}, 172),
    ({"k": 5, "metric": "minkowski", "p": 3, "normalise": "zscore", "weights": "distance"}, 171),
]
UNTIED = [metric for metric in METRICS if metric["metric"] != "hamming"]
"""The metrics that rarely give equal distances: scikit-learn does not define the order of rows at equal distance."""
SCALERS = {"none": FunctionTransformer(), "zscore": StandardScaler(), "minmax": MinMaxScaler()}


def ignore_progress(_done: int, _total: int) -> None:
    pass


def run(finder: Finder, dataset: Dataset, **params: Any) -> tuple[KnnParams, Predictions]:
    """Evaluate as scikit-learn does: the order of the rows decides ties, and folds are not stratified."""
    params = {"task": "classification", "ties": "order"} | params
    if params.get("evaluation", {}).get("method") == "kfold":
        params["evaluation"] = {"stratify": False} | params["evaluation"]
    validated = KnnParams.model_validate(params)
    return validated, evaluate(validated, dataset, finder, ignore_progress)


def make_dataset(task: str, *, count: int = 130, width: int = 5, seed: int = 1) -> Dataset:
    rng = np.random.default_rng(seed)
    attributes = rng.random((count, width))
    if task == "classification":
        labels = (attributes[:, 0] * 3 + rng.random(count)).astype(np.int64)
        return Dataset("random", [f"x{i}" for i in range(width)], attributes, labels, ["a", "b", "c", "d"])
    return Dataset("random", [f"x{i}" for i in range(width)], attributes, attributes.sum(axis=1), [])


@pytest.mark.parametrize(("params", "right"), FIGURES, ids=str)
def test_leave_one_out_predictions_for_wine_equal_those_of_scikit_learn(
    params: dict[str, Any], right: int, wine: Dataset, finder: Finder
) -> None:
    _, found = run(finder, wine, evaluation=LOO, **params)
    np.testing.assert_array_equal(found.index, np.arange(178))
    predicted = found.labels[params["k"]]
    assert (predicted == wine.labels).sum() == right
    neighbours = KNeighborsClassifier(
        params["k"],
        weights=params.get("weights", "uniform"),
        metric=params["metric"],
        p=params.get("p", 2),
        algorithm="brute",
    )
    peer = make_pipeline(SCALERS[params["normalise"]], neighbours)
    np.testing.assert_array_equal(predicted, cross_val_predict(peer, wine.attributes, wine.labels, cv=LeaveOneOut()))


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_predictions_equal_those_of_scipy_row_by_row(
    metric: dict[str, Any], weights: str, task: str, finder: Finder
) -> None:
    dataset = make_dataset(task)
    if metric["metric"] == "hamming":
        dataset.attributes[:] = np.round(dataset.attributes * 3)
    params, found = run(
        finder, dataset, **metric, weights=weights, task=task, k=[1, 4, 9], evaluation={"method": "kfold", "folds": 3}
    )
    done = 0
    for fold in split(params.evaluation, 130):
        distances = find_distances(params, dataset.attributes[fold.training], dataset.attributes[fold.queries])
        rows, nearest = find_neighbours(distances, 9)
        part = slice(done, done + len(fold.queries))
        np.testing.assert_array_equal(found.index[part], fold.queries)
        np.testing.assert_array_equal(found.fold[part], fold.number)
        np.testing.assert_array_equal(found.neighbours[part], fold.training[rows])
        np.testing.assert_allclose(found.distances[part], nearest, rtol=1e-9)
        labels = dataset.labels[fold.training[rows]]
        for k in (1, 4, 9):
            expected = [predict(params, *pair) for pair in zip(labels[:, :k], nearest[:, :k], strict=True)]
            np.testing.assert_allclose(found.labels[k][part], expected, rtol=1e-9)
        done = part.stop
    assert done == 130


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("normalise", ["none", "zscore", "minmax"])
@pytest.mark.parametrize("metric", UNTIED, ids=name_metric)
def test_predictions_equal_those_of_scikit_learn_row_by_row(
    metric: dict[str, Any], normalise: str, weights: str, task: str, finder: Finder
) -> None:
    if metric["metric"] == "bhattacharyya":
        normalise = "none"  # this metric requires distributions, and scaled rows are no distributions
    dataset = make_dataset(task)
    _, found = run(
        finder,
        dataset,
        **metric,
        normalise=normalise,
        weights=weights,
        task=task,
        k=6,
        evaluation={"train_size": 100, "seed": 5},
    )
    (fold,) = split(KnnParams.model_validate({"evaluation": {"train_size": 100, "seed": 5}}).evaluation, 130)
    scaler = SCALERS[normalise].fit(dataset.attributes[fold.training])
    training = scaler.transform(dataset.attributes[fold.training])
    options: dict[str, Any] = {"metric": metric["metric"], "p": metric.get("p", 2)}
    if metric["metric"] == "mahalanobis":
        options = {"metric": "mahalanobis", "metric_params": {"VI": np.linalg.inv(np.cov(training, rowvar=False))}}
    elif metric["metric"] == "bhattacharyya":
        options = {"metric": bhattacharyya}
    kind = KNeighborsClassifier if task == "classification" else KNeighborsRegressor
    peer = kind(6, weights=weights, algorithm="brute", **options).fit(training, dataset.labels[fold.training])
    queries = scaler.transform(dataset.attributes[fold.queries])
    np.testing.assert_array_equal(found.neighbours, fold.training[peer.kneighbors(queries)[1]])
    np.testing.assert_allclose(found.labels[6], peer.predict(queries), rtol=1e-9)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric["metric"] != "mahalanobis"], ids=name_metric)
def test_leave_one_out_in_a_single_search_equals_leave_one_out_fold_by_fold(
    metric: dict[str, Any], finder: Finder
) -> None:
    """Compare a single search, in which no row is its own neighbour, with brute force in each fold of one query."""
    dataset = make_dataset("classification", count=60)
    dataset.attributes[30:] = dataset.attributes[:30]
    params, found = run(finder, dataset, **metric, k=4, evaluation=LOO)
    for fold in split(params.evaluation, 60):
        (row,) = fold.queries
        distances = find_distances(params, dataset.attributes[fold.training], dataset.attributes[fold.queries])
        rows, nearest = find_neighbours(distances, 4)
        np.testing.assert_array_equal(np.sort(found.neighbours[row]), np.sort(fold.training[rows[0]]))
        np.testing.assert_allclose(found.distances[row], nearest[0], atol=1e-7)
        assert found.fold[row] == row


def test_neighbours_in_a_constant_table_are_the_other_rows_with_the_lowest_indices(finder: Finder) -> None:
    dataset = Dataset("constant", ["x"], np.ones((6, 1)), np.array([0, 1, 0, 1, 0, 1]), ["a", "b"])
    _, found = run(finder, dataset, k=2, evaluation=LOO)
    expected = [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]
    np.testing.assert_array_equal(found.neighbours, expected)


def test_scaling_is_fitted_to_the_training_part_only(finder: Finder) -> None:
    """A scaling that was also fitted to the far query would make the first attribute of all other rows almost equal."""
    attributes = np.array([[0.0, 0.0], [1.0, 0.3], [0.1, 1.0], [1e6, 0.4]])
    dataset = Dataset("far", ["x", "y"], attributes, np.array([0, 1, 0, 1]), ["a", "b"])
    for normalise in ("zscore", "minmax"):
        _, found = run(finder, dataset, k=1, normalise=normalise, evaluation=LOO)
        assert found.neighbours[3, 0] == 1


def test_an_evaluation_with_bhattacharyya_fails_if_a_scaled_query_has_a_negative_value(
    wine: Dataset, finder: Finder
) -> None:
    with pytest.raises(JobFailedError) as failure:
        run(finder, wine, metric="bhattacharyya", normalise="minmax", evaluation=LOO)
    assert failure.value.type == "negative-values"


def test_a_job_with_too_many_classes_fails(finder: Finder) -> None:
    names = [str(number) for number in range(1_001)]
    dataset = Dataset("names", ["x"], np.ones((1_001, 1)), np.arange(1_001), names)
    with pytest.raises(JobFailedError, match="regression"):
        run(finder, dataset)


@pytest.mark.parametrize("labels", [[0.0, 1e200, 1.0], [0.0, 1.0, 2.0]])
def test_a_job_fails_if_values_are_too_large_to_be_squared(labels: list[float], finder: Finder) -> None:
    attributes = np.array([[1.0], [2.0], [1e150 if labels[1] == 1 else 3.0]])
    dataset = Dataset("huge", ["x"], attributes, np.array(labels), [])
    with pytest.raises(JobFailedError, match="Rescale"):
        run(finder, dataset, task="regression", k=1, evaluation=LOO)


def make_stopping_progress(calls: int) -> tuple[Callable[[int, int], None], list[int]]:
    reported: list[int] = []

    def advance(done: int, _total: int) -> None:
        reported.append(done)
        if len(reported) == calls:
            raise JobStoppedError(text("cancelled"))

    return advance, reported


@pytest.mark.parametrize("params", [{}, {"normalise": "zscore"}], ids=["one pass", "folds"])
def test_an_evaluation_stops_between_blocks_if_progress_raises_an_error(
    params: dict[str, Any], wine: Dataset, cells: Cells
) -> None:
    validated = KnnParams.model_validate({"evaluation": LOO, **params})
    advance, reported = make_stopping_progress(3)
    with pytest.raises(JobStoppedError):
        evaluate(validated, wine, Finder(cells, 32 << 10), advance)
    assert len(reported) == 3
    assert max(reported) < 178


@pytest.mark.parametrize("normalise", ["none", "zscore"])
@pytest.mark.parametrize("evaluation", [LOO, {"method": "kfold", "repeats": 2}, {"train_size": 99}])
def test_progress_rises_to_the_number_of_predictions(
    normalise: str, evaluation: dict[str, Any], wine: Dataset, finder: Finder
) -> None:
    params = KnnParams.model_validate({"normalise": normalise, "evaluation": evaluation})
    reported: list[tuple[int, int]] = []
    found = evaluate(params, wine, finder, lambda *progress: reported.append(progress))
    assert reported == sorted(reported)
    assert reported[-1] == (len(found.index), len(found.index))
