"""The table of predictions, as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Final

from shared.kinds.knn.formula_cells import mark_formula
from shared.kinds.knn.parameters import Task
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions
from worker.engines.knn.space import Labels

COLUMNS: Final = ("index", "label", "prediction", "neighbours", "distances", "fold")
NEIGHBOURS_AT_ONCE: Final = 2**16
"""The number of neighbours to write between two reports of progress. Writing so many takes a tenth of a second."""


def format_predictions(
    dataset: Dataset, predictions: Predictions, task: Task, k: int, advance: Callable[[int, int], None]
) -> bytes:
    """Write one line for each prediction, with the true label and the k neighbours that the prediction comes from.

    The names of classes come from the user, so those that a spreadsheet would run as formulas are marked by an
    apostrophe (`shared.kinds.knn.formula_cells`).

    A row is given by its index in the table, counted from 0 and with the rows that are left out; the nearest
    neighbour is first. The neighbours of a prediction are separated by spaces, and so
    are its distances. A number has enough digits to read the same float64 back.

    Parameters
    ----------
    dataset
        Table and labels.
    predictions
        The predictions of the evaluation, for every k.
    task
        Whether labels are classes or values.
    k
        The k whose predictions are written.
    advance
        Called after each part, with the number of lines written so far and the number of all lines.
    """
    content = io.BytesIO()
    text = io.TextIOWrapper(content, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    classes = [mark_formula(name) for name in dataset.classes]
    total = len(predictions.index)
    step = -(-NEIGHBOURS_AT_ONCE // k)
    for start in range(0, total, step):
        part = slice(start, min(start + step, total))
        index = predictions.index[part]
        writer.writerows(
            zip(
                dataset.find_rows(index).tolist(),
                _name(dataset.labels[index], classes, task),
                _name(predictions.labels[k][part], classes, task),
                (" ".join(map(repr, row)) for row in dataset.find_rows(predictions.neighbours[part, :k]).tolist()),
                (" ".join(map(repr, row)) for row in predictions.distances[part, :k].tolist()),
                predictions.fold[part].tolist(),
                strict=True,
            )
        )
        advance(part.stop, total)
    return content.getvalue()


def _name(labels: Labels, classes: Sequence[str], task: Task) -> list[str]:
    """Return labels as text: the name of the class, or the value."""
    if task is Task.CLASSIFICATION:
        return [classes[label] for label in labels.tolist()]
    return [repr(value) for value in labels.tolist()]
