"""The form of a knn job."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from wtforms import BooleanField, FileField, SelectField, StringField

from shared.errors import Problem, RequestInvalidError
from shared.files.keys import upload_key
from shared.files.registry import open_file_store
from shared.jobs import Kind
from shared.kinds.knn import csv_files, datasets
from shared.kinds.knn.parameters import Metric, Normalisation, Task, Weights
from shared.settings import Settings
from shared.texts import text
from web.pages.forms import FILE, JobForm, read_number

_EVALUATIONS: Final = {"holdout": ("train_size", "seed"), "kfold": ("folds", "repeats", "seed"), "loo": ()}
_TITLES: Final = {
    Normalisation.NONE: "not at all",
    Normalisation.ZSCORE: "to mean 0 and deviation 1 (z-scores)",
    Normalisation.MINMAX: "to 0 and 1 (min-max)",
    Weights.UNIFORM: "all alike",
    Weights.DISTANCE: "the nearer, the more",
    "holdout": "hold-out: one random split",
    "kfold": "k-fold: each row once per repeat",
    "loo": "leave one out: each row from all others",
}
PREVIEW_ROWS: Final = 5


def _offer(values: Iterable[str]) -> dict[str, str]:
    return {value: _TITLES.get(value, value) for value in values}


def _is_a_name(name: str, columns: Sequence[str]) -> bool:
    """Tell whether a column's name leads to it alone: a number is read as an index."""
    return bool(name) and columns.count(name) == 1 and read_number(name) == name


class KnnForm(JobForm):
    """What to evaluate, on which data; of several files the last one counts."""

    KIND = Kind.KNN

    file = FileField("CSV file", description="One row per sample, in UTF-8; without a file, the Wine data.")
    label = StringField(
        "Column to predict", default="0", description="Its name, or its index from 0; negative from the end."
    )
    header = BooleanField("The first row of the file names its columns", default=True)
    task = SelectField("Task", choices=_offer(Task), default=Task.CLASSIFICATION)
    k = StringField("k, how many neighbours", default="5", description="Several, such as 1, 3, 5, are compared.")
    metric = SelectField("Distance", choices=_offer(Metric), default=Metric.EUCLIDEAN)
    p = StringField("p, of the Minkowski distance", default="2")
    weights = SelectField("Neighbours count", choices=_offer(Weights), default=Weights.UNIFORM)
    normalise = SelectField(
        "Scale attributes",
        choices=_offer(Normalisation),
        default=Normalisation.NONE,
        description="Unscaled, attributes of large numbers drown the others.",
    )
    method = SelectField("Method", choices=_offer(_EVALUATIONS), default="holdout")
    train_size = StringField("Rows to know", default="128", description="The others are predicted.")
    folds = StringField("Folds", default="10")
    repeats = StringField("Repeats", default="1")
    seed = StringField("Seed of the split", default="0")

    def build_body(self) -> dict[str, Any]:
        """See ``JobForm``."""
        texts = self.texts
        dataset: dict[str, Any] = {"name": datasets.WINE.name}
        if self.kept:
            label = read_number(texts["label"])
            dataset = {"upload": self.kept[-1].id, "label": label, "header": self.header.data}
        ks = [read_number(part) for part in texts["k"].split(",")]
        method = texts["method"]
        split = {name: read_number(texts[name]) for name in _EVALUATIONS.get(method, ())}
        params: dict[str, Any] = {
            "dataset": dataset,
            "k": ks[0] if len(ks) == 1 else ks,
            **{name: texts[name] for name in ("task", "metric", "weights", "normalise")},
            "evaluation": {"method": method} | split,
        }
        if texts["metric"] == Metric.MINKOWSKI:
            params["p"] = read_number(texts["p"])
        return {"kind": self.KIND, "params": params, "device": texts["device"]}

    def list_notes(self, settings: Settings) -> dict[str, Any]:
        """See ``JobForm``: the first rows of the data, and what to call their columns."""
        preview = csv_files.Preview((), ())
        columns = None if self.kept else (datasets.WINE.label, *datasets.WINE.columns)
        try:
            with self._open_table(settings) as path:
                preview = csv_files.preview(path, PREVIEW_ROWS, columns, header=bool(self.header.data))
        except FileNotFoundError:
            self.place_problems([Problem(csv_files.UPLOAD, text("upload-file-missing"))])
        except RequestInvalidError as error:
            self.place_problems(error.problems)
        return {"preview": preview, "labels": self._offer_labels(preview.columns)}

    def _open_table(self, settings: Settings) -> AbstractContextManager[Path]:
        """Provide the uploaded table, or the Wine data, as a local file."""
        if not self.kept:
            return nullcontext(datasets.DATA_FOLDER / datasets.WINE.file)
        return open_file_store(settings.storage).local_copy(upload_key(self.kept[-1].id))

    def _offer_labels(self, columns: Sequence[str]) -> list[tuple[str, str]]:
        """Return how to name each column as the one to predict, and what it is called."""
        return [
            (name if self.header.data and _is_a_name(name, columns) else str(index), name)
            for index, name in enumerate(columns)
        ]

    def _place(self, parts: list[str]) -> tuple[str, str]:
        # Past the container: /params/evaluation/folds is the field "folds", /params/k/0 is "k".
        names = [part for part in parts if not part.isdecimal()]
        last = names[-1] if names else ""
        return {"upload": FILE, "evaluation": "method", "dataset": FILE}.get(last, last), ""
