"""What a knn job predicted, row by row, as its page shows it."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from shared.database import queries
from shared.kinds.knn.parameters import Task
from shared.schemas import responses
from shared.services import Services

FILE: Final = "predictions.csv"
MAX_ROWS: Final = 500


@dataclass(frozen=True)
class Prediction:
    """One row.

    Parameters
    ----------
    index
        Of the row in the table, from 0.
    wrong
        Whether the label is another class; ``None`` where labels are values.
    """

    index: str
    label: str
    prediction: str
    wrong: bool | None


@dataclass(frozen=True)
class Predictions:
    """The beginning of the table.

    Parameters
    ----------
    cut
        Whether there are more.
    url
        Of all of it.
    """

    rows: Sequence[Prediction]
    cut: bool
    url: str

    @property
    def wrong(self) -> int | None:
        """How many are wrong; ``None`` where labels are values."""
        judged = [row.wrong for row in self.rows if row.wrong is not None]
        return sum(judged) if judged else None


def read_predictions(services: Services, session: Session, job: responses.Job) -> Predictions | None:
    """Read the first predictions of a job; ``None`` where it has none, or their file is gone."""
    classes = job["params"]["task"] == Task.CLASSIFICATION
    url = next((artifact["url"] for artifact in job["artifacts"] if artifact["name"] == FILE), None)
    if url is None:
        return None
    try:
        content = services.files.open(queries.get_artifact(session, job["id"], FILE).key)
        with io.TextIOWrapper(content, encoding="utf-8", newline="") as file:
            lines = list(itertools.islice(csv.DictReader(file), MAX_ROWS + 1))
    except FileNotFoundError:
        return None
    rows = [
        Prediction(
            line["index"], line["label"], line["prediction"], line["label"] != line["prediction"] if classes else None
        )
        for line in lines[:MAX_ROWS]
    ]
    rows.sort(key=lambda row: not row.wrong)  # what went wrong is looked for first
    return Predictions(rows, len(lines) > MAX_ROWS, url)
