"""Scores equal those of scikit-learn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from shared.kinds.knn.parameters import KnnParams
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions
from worker.engines.knn.scores import (
    count_confusion,
    describe_classes,
    find_deviation,
    find_macro_f1,
    score_values,
    summarise,
)

CLASSES = ["a", "b", "c", "d"]


@pytest.fixture
def pairs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 3, 200), rng.integers(0, 4, 200)


def test_scores_of_classes_equal_those_of_scikit_learn(pairs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    confusion = count_confusion(*pairs, classes=4)
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(*pairs))
    assert find_macro_f1(confusion) == pytest.approx(metrics.f1_score(*pairs, average="macro"))
    expected = metrics.precision_recall_fscore_support(*pairs, zero_division=0)
    described = describe_classes(confusion, CLASSES)
    for index, name in enumerate(CLASSES):
        assert described[index] == pytest.approx(
            {
                "class": name,
                "precision": expected[0][index],
                "recall": expected[1][index],
                "f1": expected[2][index],
                "support": expected[3][index],
            }
        )


def test_a_class_that_does_not_occur_is_left_out_of_macro_f1() -> None:
    truth, found = np.array([0, 0, 2]), np.array([0, 2, 2])
    expected = metrics.f1_score(truth, found, average="macro")
    assert find_macro_f1(count_confusion(truth, found, 4)) == pytest.approx(expected)


def test_scores_of_values_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    truth, found = rng.random(50), rng.random(50)
    assert score_values(truth, found) == pytest.approx(
        {
            "rmse": metrics.root_mean_squared_error(truth, found),
            "mae": metrics.mean_absolute_error(truth, found),
            "r2": metrics.r2_score(truth, found),
        }
    )


@pytest.mark.parametrize("truth", [[2.0], [2.0, 2.0]])
def test_r2_is_undefined_if_all_true_values_are_equal(truth: list[float]) -> None:
    assert score_values(np.array(truth), np.zeros(len(truth)))["r2"] is None


def test_the_standard_deviation_is_computed_from_the_accuracies_of_the_folds() -> None:
    right, fold = np.array([True, False, True, True]), np.array([0, 0, 1, 1])
    assert find_deviation(right, fold) == pytest.approx(np.std([0.5, 1.0]))


def summarise_labels(task: str, truth: list[Any], labels: dict[int, list[Any]]) -> dict[str, Any]:
    count = len(truth)
    params = KnnParams.model_validate({"task": task, "k": list(labels), "evaluation": {"method": "kfold", "folds": 2}})
    dataset = Dataset("", [], np.empty((count, 0)), np.array(truth), CLASSES if task == "classification" else [])
    found = {k: np.array(values) for k, values in labels.items()}
    nothing = np.empty((count, max(labels)))
    index = np.arange(count)
    return summarise(params, dataset, Predictions(index, index % 2, nothing.astype(np.int64), nothing, found))


def test_the_smallest_k_is_best_if_several_k_have_the_same_accuracy() -> None:
    result = summarise_labels("classification", [0, 1, 1], {1: [0, 0, 0], 3: [0, 1, 0], 5: [0, 0, 1]})
    assert result["best_k"] == 3
    assert result["confusion"][1] == [1, 1, 0, 0]
    assert [score["accuracy"] for score in result["scores"]] == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_the_smallest_k_is_best_if_several_k_have_the_same_error() -> None:
    result = summarise_labels("regression", [0.0, 1.0], {1: [3.0, 3.0], 2: [0.5, 0.5], 4: [0.5, 0.5]})
    assert result["best_k"] == 2
    assert (result["classes"], result["confusion"], result["per_class"]) == (None, None, None)
