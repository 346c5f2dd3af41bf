"""The list of a job's pictures, and the drawing of the confusion matrix and the scores."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from shared.kinds.knn.parameters import KnnParams, Task
from worker.engines.chart_style import (
    PALETTE,
    add_axes,
    make_figure,
    render_svg,
    style,
)
from worker.engines.knn.chart_labels import LETTER_INCHES, MAX_CLASS_NAME_LENGTH, shorten
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.scatter import ScatterCache

MAX_NUMBERED_CLASSES: Final = 20
"""The highest number of classes at which every cell of the confusion matrix shows its count."""
MAX_SHOWN_CLASSES: Final = 40
DARK: Final = 0.55
"""The highest share at which the count in a cell is black; on cells with a larger share it is white."""


def list_pictures(
    params: KnnParams, dataset: Dataset, result: dict[str, Any], album: ScatterCache
) -> list[tuple[str, Callable[[], bytes]]]:
    """List a job's pictures: for each picture, the artifact's name and a function that draws the picture."""
    pictures: list[tuple[str, Callable[[], bytes]]] = [("scatter.svg", partial(album.draw, dataset, params.known_task))]
    if params.task is Task.CLASSIFICATION:
        pictures.append(("confusion.svg", partial(draw_confusion, result)))
    if len(params.ks) > 1:
        pictures.append(("scores.svg", partial(draw_scores, result, params.known_task)))
    return pictures


def draw_confusion(result: dict[str, Any]) -> bytes:
    """Draw the confusion matrix of the best k as SVG.

    A cell is darker, the larger its share is of the rows of its true class.
    """
    confusion = np.array(result["confusion"])
    shown = _choose_classes(confusion)
    counts = confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(confusion[shown].sum(axis=1, keepdims=True), 1)
    names = [shorten(result["classes"][index], MAX_CLASS_NAME_LENGTH) for index in shown]
    room = max(map(len, names)) * LETTER_INCHES
    side = min(9.0, max(2.6, 0.55 * len(names)))
    upright = room > side / len(names)
    left, bottom, right, top = 0.6 + room, 0.6 + (room if upright else 0.1), 0.3, 0.75
    with style():
        figure = make_figure(left + side + right, bottom + side + top)
        axes = add_axes(figure, left=left, bottom=bottom, right=right, top=top)
        axes.grid(visible=False)
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.8)
        places = np.arange(len(names)) + 0.5
        axes.set_xticks(places, names, rotation=90 if upright else 0)
        axes.set_yticks(places, names)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.set_title(_title_confusion(result, confusion, shown), pad=10)
        if len(names) <= MAX_NUMBERED_CLASSES:
            _write_counts(axes, counts, shares)
        return render_svg(figure)


def _choose_classes(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose the classes to show, in ascending order: all classes, or the classes with the most rows."""
    supports = confusion.sum(axis=1)
    return np.sort(np.argsort(-supports, kind="stable")[:MAX_SHOWN_CLASSES])


def _title_confusion(result: dict[str, Any], confusion: NDArray[np.int64], shown: NDArray[np.int64]) -> str:
    title = f"k = {result['best_k']}: {np.trace(confusion)} of {confusion.sum()} right"
    if len(shown) < len(confusion):
        title += f"\n(the {len(shown)} most frequent of {len(confusion)} classes)"
    return title


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > DARK else "black"
        axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", color=colour)


def draw_scores(result: dict[str, Any], task: Task) -> bytes:
    """Draw the scores against k as SVG, and mark the best k."""
    scores = result["scores"]
    ks = [score["k"] for score in scores]
    with style():
        figure = make_figure(7.0, 4.7)
        axes = add_axes(figure, left=0.85, bottom=0.6, right=0.25, top=0.85)
        axes.axvline(result["best_k"], color="#999999", linestyle=":", label=f"best k = {result['best_k']}")
        if task is Task.CLASSIFICATION:
            _draw_accuracies(axes, ks, scores)
        else:
            _draw_line(axes, ks, scores, 0, ("rmse", "RMSE"))
            _draw_line(axes, ks, scores, 1, ("mae", "MAE"))
            axes.set_ylabel("Error, in the label's unit")
        axes.set_xlabel("k, neighbours")
        axes.set_title(f"{result['n_test']} predictions for each k", pad=26)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.4)
        return render_svg(figure)


def _draw_accuracies(axes: Axes, ks: list[int], scores: list[dict[str, Any]]) -> None:
    if scores[0]["accuracy_std"] is not None:
        middle = np.array([score["accuracy"] for score in scores])
        spread = np.array([score["accuracy_std"] for score in scores])
        lowest, highest = np.maximum(middle - spread, 0), np.minimum(middle + spread, 1)
        axes.fill_between(
            ks,
            lowest,
            highest,
            color=PALETTE[0],
            alpha=0.15,
            linewidth=0,
            label="± 1 standard deviation over the folds",
        )
    _draw_line(axes, ks, scores, 0, ("accuracy", "Accuracy"))
    _draw_line(axes, ks, scores, 1, ("macro_f1", "Macro F1"))
    axes.set_ylabel("Share")


def _draw_line(axes: Axes, ks: list[int], scores: list[dict[str, Any]], number: int, score: tuple[str, str]) -> None:
    key, label = score
    values = [entry[key] for entry in scores]
    axes.plot(ks, values, color=PALETTE[number], marker="os"[number], markersize=5, label=label)
