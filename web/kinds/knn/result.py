"""What the page of a knn job shows of the job's result."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.database import queries
from shared.errors import NotFoundError
from shared.kinds.knn.formula_cells import unmark_formula
from shared.schemas import responses
from shared.services import Services
from web.kinds.spec import ResultView

PREDICTIONS_FILE: Final = "predictions.csv"
PICTURE_TYPE: Final = "image/svg+xml"
MAX_ROWS: Final = 500
_USES: Final = {
    "label": "label",
    "number": "number",
    "days": "number of days",
    "boolean": "0 or 1",
    "onehot": "one-hot",
    "ordinal": "numbers in alphabetical order",
    "left-out": "left out",
}
_IMPUTATIONS: Final = {"median": "the median", "most_frequent": "the most frequent value"}


@dataclass(frozen=True)
class Prediction:
    """A row of the job's data table, and the prediction for this row.

    Parameters
    ----------
    index
        The index of the row in the data table, counted from 0.
    wrong
        Whether the prediction differs from the label; ``None`` for regression.
    """

    index: str
    label: str
    prediction: str
    wrong: bool | None


@dataclass(frozen=True)
class Predictions:
    """The predictions at the beginning of the file ``predictions.csv``.

    Parameters
    ----------
    rows
        The first `MAX_ROWS` predictions of the file, with the wrong predictions before the others.
    cut
        Whether the file contains more predictions than ``rows``.
    url
        The address of the whole file.
    """

    rows: Sequence[Prediction]
    cut: bool
    url: str

    @property
    def wrong(self) -> int | None:
        """The number of wrong predictions among ``rows``; ``None`` for regression."""
        judged = [row.wrong for row in self.rows if row.wrong is not None]
        return sum(judged) if judged else None


@dataclass(frozen=True)
class PreparedColumn:
    """What was done to a column, in words."""

    name: str
    type: str
    use: str
    missing: str


@dataclass(frozen=True)
class KnnResultView(ResultView):
    """The predictions and pictures of a knn job, and what was done to each column of an uploaded table."""

    predictions: Predictions | None
    columns: Sequence[PreparedColumn]
    pictures: Sequence[responses.Artifact]


def view_result(services: Services, job: responses.Job) -> KnnResultView:
    """Collect what the page shows in addition to the job itself."""
    pictures = [artifact for artifact in job["artifacts"] if artifact["media_type"] == PICTURE_TYPE]
    return KnnResultView(job["artifacts"], _read_predictions(services, job), _describe_columns(job), pictures)


def _describe_columns(job: responses.Job) -> list[PreparedColumn]:
    """Describe the columns of an uploaded table; those of a built-in data set are used as they are."""
    preparation = (job["result"] or {}).get("preparation")
    if preparation is None or preparation["detected"] is None:
        return []
    return [_describe_column(column) for column in preparation["columns"]]


def _describe_column(column: Mapping[str, Any]) -> PreparedColumn:
    use = _USES[column["use"]]
    if column["values"] is not None:
        use += f", {column['values']} values"
    if column["scaled"]:
        use += ", scaled"
    if column["reason"] is not None:
        use = column["reason"]["detail"]  # which says that it is left out
    missing = str(column["missing"] or "")
    if column["imputed"] is not None:
        missing += f", replaced by {_IMPUTATIONS[column['imputed']]}"
    return PreparedColumn(column["column"], column["type"], use, missing)


def _read_predictions(services: Services, job: responses.Job) -> Predictions | None:
    """Read the first predictions of a job; return ``None`` if there is no predictions file or the file was deleted."""
    is_classification = (job["result"] or {}).get("classes") is not None
    url = next((artifact["url"] for artifact in job["artifacts"] if artifact["name"] == PREDICTIONS_FILE), None)
    if url is None:
        return None
    try:
        with services.database.reading() as session:
            key = queries.get_artifact(session, job["id"], PREDICTIONS_FILE).key
        with io.TextIOWrapper(services.files.open(key), encoding="utf-8", newline="") as file:
            lines = list(itertools.islice(csv.DictReader(file), MAX_ROWS + 1))
    except (FileNotFoundError, NotFoundError):  # the file was deleted
        return None
    rows = [
        Prediction(
            line["index"],
            unmark_formula(line["label"]),
            unmark_formula(line["prediction"]),
            line["label"] != line["prediction"] if is_classification else None,
        )
        for line in lines[:MAX_ROWS]
    ]
    rows.sort(key=lambda row: not row.wrong)  # wrong predictions first, since users look for these
    return Predictions(rows, len(lines) > MAX_ROWS, url)
