"""The form of a knn job."""

from collections.abc import Iterable
from typing import Any, Final

from wtforms import BooleanField, FileField, SelectField, StringField

from shared.errors import Problem, RequestInvalidError
from shared.jobs import Kind
from shared.kinds.knn import csv_files, datasets
from shared.kinds.knn.parameters import Metric, Normalisation, Task, Weights
from shared.services import Services
from shared.texts import text
from web.kinds.job_form import FILE_FIELD, JobForm, read_number
from web.kinds.knn import table_preview

_EVALUATIONS: Final = {"holdout": ("train_size", "seed"), "kfold": ("folds", "repeats", "seed"), "loo": ()}
_TITLES: Final = {
    Normalisation.NONE: "none",
    Normalisation.ZSCORE: "to mean 0 and standard deviation 1 (z-scores)",
    Normalisation.MINMAX: "to the range from 0 to 1 (min-max)",
    Weights.UNIFORM: "equal for all neighbours",
    Weights.DISTANCE: "higher for closer neighbours",
    "holdout": "hold-out: one random split",
    "kfold": "k-fold: each row is predicted once per repeat",
    "loo": "leave-one-out: each row is predicted from all others",
}


def _list_choices(values: Iterable[str]) -> dict[str, str]:
    return {value: _TITLES.get(value, value) for value in values}


class KnnForm(JobForm):
    """The form of a knn job: what to evaluate, and on which data. If several files were sent, the last file is used."""

    KIND = Kind.KNN

    file = FileField("CSV file", description="One row per sample, in UTF-8. Without a file, the Wine data set is used.")
    label = StringField(
        "Column to predict", default="0", description="Its name, or its index from 0; negative indices count back."
    )
    header = BooleanField("The first row contains the column names", default=True)
    task = SelectField("Task", choices=_list_choices(Task), default=Task.CLASSIFICATION)
    k = StringField(
        "k, the number of neighbours", default="5", description="Several values, such as 1, 3, 5, are compared."
    )
    metric = SelectField("Distance", choices=_list_choices(Metric), default=Metric.EUCLIDEAN)
    p = StringField("p of the Minkowski distance", default="2")
    weights = SelectField("Weight of the neighbours", choices=_list_choices(Weights), default=Weights.UNIFORM)
    normalise = SelectField(
        "Scaling of the attributes",
        choices=_list_choices(Normalisation),
        default=Normalisation.NONE,
        description="Without scaling, attributes with large values dominate the distance.",
    )
    method = SelectField("Method", choices=_list_choices(_EVALUATIONS), default="holdout")
    train_size = StringField("Training rows", default="128", description="The other rows are predicted.")
    folds = StringField("Folds", default="10")
    repeats = StringField("Repeats", default="1")
    seed = StringField("Seed of the split", default="0")

    def build_body(self) -> dict[str, Any]:
        """Build the body of the API request.

        If the value of a number field is not a number, it stays a text, and the schema refuses it.
        """
        texts = self.texts
        dataset: dict[str, Any] = {"name": datasets.WINE.name}
        if self.uploads:
            label = read_number(texts["label"])
            dataset = {"upload": self.uploads[-1].id, "label": label, "header": self.header.data}
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

    def prepare(self, services: Services) -> dict[str, Any]:
        """Return the first rows of the data, and for each column the value that selects the column as the label."""
        preview = csv_files.Preview((), ())
        upload = self.uploads[-1] if self.uploads else None
        try:
            preview = table_preview.read_preview(services.files, upload, header=bool(self.header.data))
        except FileNotFoundError:
            self.assign_problems([Problem(csv_files.UPLOAD, text("upload-file-missing"))])
        except RequestInvalidError as error:
            self.assign_problems(error.problems)
        labels = table_preview.list_labels(preview.columns, header=bool(self.header.data))
        return {"preview": preview, "labels": labels}

    def _find_field(self, parts: list[str]) -> tuple[str, str]:
        # The last name in the pointer is the field: "folds" in /params/evaluation/folds, "k" in /params/k/0.
        names = [part for part in parts if not part.isdecimal()]
        last = names[-1] if names else ""
        return {"upload": FILE_FIELD, "evaluation": "method", "dataset": FILE_FIELD}.get(last, last), ""
