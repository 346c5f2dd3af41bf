"""The scores of predictions, which are the result of a job."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.kinds.knn.parameters import KFold, KnnParams, Task
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions
from worker.engines.knn.folds import count_training
from worker.engines.knn.space import Floats, Indices


def summarise(params: KnnParams, dataset: Dataset, predictions: Predictions) -> dict[str, Any]:
    """Score the predictions of every k, pooled over all folds.

    Returns
    -------
    dict
        ``scores``, ``best_k``, ``classes``, ``confusion``, ``per_class``,
        ``n_train`` and ``n_test``, ready for JSON. If several k are
        equally good, the smallest of them is the best k.
    """
    sizes = {
        "n_train": count_training(params.evaluation, len(dataset.labels)),
        "n_test": len(predictions.index),
    }
    if params.task is Task.REGRESSION:
        return _summarise_values(dataset, predictions) | sizes
    return _summarise_classes(dataset, predictions, folded=isinstance(params.evaluation, KFold)) | sizes


def _summarise_values(dataset: Dataset, predictions: Predictions) -> dict[str, Any]:
    truth = np.asarray(dataset.labels[predictions.index], np.float64)
    scores: list[dict[str, Any]] = [
        {"k": k} | score_values(truth, np.asarray(found, np.float64)) for k, found in predictions.labels.items()
    ]
    best = min(scores, key=lambda score: (score["rmse"], score["k"]))
    return {"scores": scores, "best_k": best["k"], "classes": None, "confusion": None, "per_class": None}


def _summarise_classes(dataset: Dataset, predictions: Predictions, *, folded: bool) -> dict[str, Any]:
    truth = np.asarray(dataset.labels[predictions.index], np.int64)
    scores: list[dict[str, Any]] = []
    for k, found in predictions.labels.items():
        confusion = count_confusion(truth, np.asarray(found, np.int64), len(dataset.classes))
        scores.append(
            {
                "k": k,
                "accuracy": float(np.trace(confusion) / len(truth)),
                "accuracy_std": find_deviation(truth == found, predictions.fold) if folded else None,
                "macro_f1": find_macro_f1(confusion),
            }
        )
    best = max(scores, key=lambda score: (score["accuracy"], -score["k"]))["k"]
    confusion = count_confusion(truth, np.asarray(predictions.labels[best], np.int64), len(dataset.classes))
    return {
        "scores": scores,
        "best_k": best,
        "classes": dataset.classes,
        "confusion": confusion.tolist(),
        "per_class": describe_classes(confusion, dataset.classes),
    }


def count_confusion(truth: Indices, found: Indices, classes: int) -> NDArray[np.int64]:
    """Count predictions by true class (rows) and predicted class (columns), shape (classes, classes)."""
    return np.bincount(truth * classes + found, minlength=classes * classes).reshape(classes, classes)


def find_deviation(right: NDArray[np.bool_], fold: Indices) -> float:
    """Find the standard deviation of the accuracies of all folds in all repeats."""
    return float(np.std(np.bincount(fold, right) / np.bincount(fold)))


def find_macro_f1(confusion: NDArray[np.int64]) -> float:
    """Average F1 over the classes that occur among the true labels or the predicted labels.

    References
    ----------
    `sklearn.metrics.f1_score(average="macro")` averages over the same classes.
    """
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    return float(_find_f1(confusion)[occurs].mean())


def describe_classes(confusion: NDArray[np.int64], classes: list[str]) -> list[dict[str, Any]]:
    """Describe each class by precision, recall, F1 and support; 0/0 counts as 0."""
    right, f1 = np.diag(confusion), _find_f1(confusion)
    supports, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        {
            "class": name,
            "precision": float(right[index] / max(predicted[index], 1)),
            "recall": float(right[index] / max(supports[index], 1)),
            "f1": float(f1[index]),
            "support": int(supports[index]),
        }
        for index, name in enumerate(classes)
    ]


def score_values(truth: Floats, found: Floats) -> dict[str, float | None]:
    """Score predicted values, shape (m,): RMSE, MAE, and R²; R² is None if all true values are equal."""
    residuals = found - truth
    spread = float(np.square(truth - truth.mean()).sum())
    explained = 1 - float(np.square(residuals).sum()) / spread if spread > 0 else None
    return {
        "rmse": float(np.sqrt(np.square(residuals).mean())),
        "mae": float(np.abs(residuals).mean()),
        "r2": explained,
    }


def _find_f1(confusion: NDArray[np.int64]) -> Floats:
    """Return the F1 of each class, shape (classes,); 0 for a class that neither occurs nor is predicted."""
    return np.asarray(2 * np.diag(confusion) / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1))
