"""The form of a knn job."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from wtforms import FileField, SelectField, SelectMultipleField, StringField

from shared.database.tables import Upload
from shared.errors import Problem, RequestInvalidError, UploadPendingError
from shared.jobs import Kind
from shared.kinds.knn import datasets
from shared.kinds.knn.parameters import (
    UPLOAD_TRAIN_SHARE,
    Metric,
    Missing,
    Normalisation,
    Task,
    TextColumns,
    Ties,
    UploadedDataset,
    Weights,
)
from shared.schemas.problems import list_problems
from shared.services import Services
from shared.tables.facts import ENCODINGS, TableFacts
from web.kinds.job_form import FILE_FIELD, JobForm, read_number
from web.kinds.knn.table_view import DECIMAL_MARKS, DELIMITERS, MAX_SHOWN_COLUMNS, UPLOAD, TableView, find_facts

AUTO: Final = "auto"
_EVALUATIONS: Final = {
    "holdout": ("train_size", "seed", "stratify"),
    "kfold": ("folds", "repeats", "seed", "stratify"),
    "loo": ("seed",),
}
_SWITCHES: Final = {"true": True, "false": False}
_READ_FIELDS: Final = ("header", "delimiter", "decimal", "encoding", "sheet")
_TITLES: Final = {
    Normalisation.NONE: "none",
    Normalisation.ZSCORE: "to mean 0 and standard deviation 1 (z-scores)",
    Normalisation.MINMAX: "to the range from 0 to 1 (min-max)",
    Weights.UNIFORM: "equal for all neighbours",
    Weights.DISTANCE: "higher for closer neighbours",
    TextColumns.ONEHOT: "one column of 0 and 1 for each value (one-hot)",
    TextColumns.ORDINAL: "numbers in alphabetical order",
    TextColumns.DROP: "left out",
    TextColumns.REFUSE: "refuse the table",
    Missing.IMPUTE: "filled: the median, or the most frequent value",
    Missing.DROP_ROWS: "leave out their rows",
    Missing.REFUSE: "refuse the table",
    Ties.SHUFFLED: "in a random order",
    Ties.ORDER: "in the order of the rows",
    "holdout": "hold-out: one random split",
    "kfold": "k-fold: each row is predicted once per repeat",
    "loo": "leave-one-out: each row is predicted from all others",
}


def _list_choices(values: Iterable[str]) -> dict[str, str]:
    return {value: _TITLES.get(value, value) for value in values}


def _list_detectable(choices: Mapping[str, str]) -> dict[str, str]:
    return {AUTO: "as detected", **choices}


class KnnForm(JobForm):
    """The form of a knn job: what to evaluate, and on which data. If several files were sent, the last file is used."""

    KIND = Kind.KNN

    file = FileField(
        "Table",
        description="CSV or other delimited text, Excel (.xlsx), Parquet or ARFF, also compressed by gzip; one row per "
        "sample. Without a file, the Wine data set is used.",
    )
    header = SelectField("Column names", choices=_list_detectable({"true": "in the first row", "false": "none"}))
    delimiter = SelectField("Delimiter", choices=_list_detectable(DELIMITERS))
    decimal = SelectField("Decimal mark", choices=_list_detectable(DECIMAL_MARKS))
    encoding = SelectField("Encoding", choices=_list_detectable({name: name for name in ENCODINGS}))
    sheet = SelectField("Sheet", choices=[], validate_choice=False)
    label = SelectField("Column to predict", choices=[], validate_choice=False)
    shown = StringField()
    """The table whose columns were shown, so that the user could choose among them; see `_name_table`."""
    offered = StringField()
    """How many columns that table has."""
    unshown = StringField()
    """The indices of the columns that are left out and have no line on the form, separated by blanks."""
    use = SelectMultipleField(choices=[], validate_choice=False)
    """The indices of the columns that are used."""
    text_columns = SelectField("Text", choices=_list_choices(TextColumns), default=TextColumns.ONEHOT)
    missing = SelectField("Missing cells", choices=_list_choices(Missing), default=Missing.IMPUTE)
    task = SelectField("Task", choices={"": "as the column suggests", **_list_choices(Task)}, default="")
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
    ties = SelectField("Rows at equal distance are ranked", choices=_list_choices(Ties), default=Ties.SHUFFLED)
    method = SelectField("Method", choices=_list_choices(_EVALUATIONS), default="holdout")
    train_size = StringField(
        "Training rows",
        description=f"A number of rows, or a share below 1. Empty: 128 for Wine, {UPLOAD_TRAIN_SHARE} for a file.",
    )
    folds = StringField("Folds", default="10")
    repeats = StringField("Repeats", default="1")
    seed = StringField("Seed", default="0", description="Of the split, and of the order of rows at equal distance.")
    stratify = SelectField(
        "Same shares of the classes in each part",
        choices={AUTO: "in folds", "true": "always", "false": "never"},
        default=AUTO,
    )

    def build_body(self) -> dict[str, Any]:
        """Build the body of the API request.

        If the value of a number field is not a number, it stays a text, and the schema refuses it.
        """
        texts = self.texts
        ks = [read_number(part) for part in texts["k"].split(",")]
        method = texts["method"]
        split: dict[str, Any] = {
            name: read_number(texts[name]) for name in _EVALUATIONS.get(method, ()) if texts[name].strip()
        }
        if "stratify" in split:
            split["stratify"] = _SWITCHES.get(texts["stratify"], texts["stratify"])
        params: dict[str, Any] = {
            "dataset": self._build_dataset(self.uploads[-1]) if self.uploads else {"name": datasets.WINE.name},
            "k": ks[0] if len(ks) == 1 else ks,
            **{name: texts[name] for name in ("metric", "weights", "normalise", "ties")},
            "task": texts["task"] or None,
            "evaluation": {"method": method} | split,
        }
        if texts["metric"] == Metric.MINKOWSKI:
            params["p"] = read_number(texts["p"])
        return {"kind": self.KIND, "params": params, "device": texts["device"]}

    def prepare(self, services: Services) -> dict[str, Any]:
        """Return the table that the form shows, and the choices of the fields that depend on the table."""
        view: TableView | None = None
        try:
            view = TableView.make(self._find_facts(services), self.texts["text_columns"], self.texts["missing"])
        except RequestInvalidError as error:
            self.assign_problems(error.problems)
        except UploadPendingError as error:
            self.assign_problems([Problem(UPLOAD, error.text)])
        if view is not None:
            self._offer_choices(view)
        return {"view": view}

    def _find_facts(self, services: Services) -> TableFacts:
        if not self.uploads:
            return datasets.load_facts(datasets.WINE.name)
        # The schema checks the values, so that a value that the form does not offer is an error of its field.
        built = {"upload": self.uploads[-1].id, **self._build_read_options()}
        try:
            dataset = UploadedDataset.model_validate(built)
        except ValidationError as error:
            raise RequestInvalidError(list_problems(error, built, "/params/dataset")) from error
        return find_facts(services, self.uploads[-1], dataset.read_options.model_dump(exclude_none=True))

    def _offer_choices(self, view: TableView) -> None:
        """Fill in what depends on the table; keep what the user has chosen for the same table."""
        self.label.choices = [(str(index), column.name) for index, column in enumerate(view.facts.columns)]
        self.sheet.choices = [("", "the first one"), *((name, name) for name in view.facts.sheets)]
        if self._has_chosen:
            return
        if self.uploads and not self.texts["shown"] and self.texts["normalise"] == Normalisation.NONE:
            self.normalise.data = Normalisation.ZSCORE
        self.label.data = "" if view.label is None else str(view.label)
        self.use.data = [str(column.index) for column in view.columns if column.reason is None]
        self.offered.data = str(len(view.facts.columns))
        self.unshown.data = " ".join(str(excluded.index) for excluded in view.unshown)
        self.shown.data = self._name_table()

    @property
    def is_outdated(self) -> bool:
        """Whether label and columns were chosen from another table, or from the same file read in another way."""
        return bool(self.texts["shown"]) and not self._has_chosen

    @property
    def _has_chosen(self) -> bool:
        """Whether label and columns were chosen by a user who saw this table."""
        return self.texts["shown"] == self._name_table()

    def _name_table(self) -> str:
        """Name the file and how it is read, since another table has other columns."""
        upload_id = self.uploads[-1].id if self.uploads else datasets.WINE.name
        return " ".join([upload_id, *(self.texts[name] or AUTO for name in _READ_FIELDS)])

    def _build_dataset(self, upload: Upload) -> dict[str, Any]:
        texts = self.texts
        dataset = {"upload": upload.id, **self._build_read_options()}
        dataset |= {name: texts[name] for name in ("text_columns", "missing") if texts[name]}
        if self._has_chosen:
            dataset |= self._build_choice()
        elif texts["label"] and not self.shown.data:  # sent by a program, which has seen no table
            dataset["label"] = read_number(texts["label"])
        return dataset

    def _build_read_options(self) -> dict[str, Any]:
        read: dict[str, Any] = {name: text for name in _READ_FIELDS if (text := self.texts[name])}
        return read | ({"header": _SWITCHES.get(read["header"], read["header"])} if "header" in read else {})

    def _build_choice(self) -> dict[str, Any]:
        """Return the label and the columns that are left out, by their indices."""
        label, used = self.texts["label"], set(self.use.data or [])
        offered = self.texts["offered"]
        count = int(offered) if offered.isdecimal() else 0
        unused = [str(index) for index in range(min(count, MAX_SHOWN_COLUMNS)) if str(index) not in used]
        excluded = [*unused, *self.texts["unshown"].split()]
        chosen: dict[str, Any] = {"exclude": [read_number(index) for index in excluded if index != label]}
        return chosen | ({"label": read_number(label)} if label else {})

    def _find_field(self, parts: list[str]) -> tuple[str, str]:
        # The last name in the pointer is the field: "folds" in /params/evaluation/folds, "k" in /params/k/0.
        names = [part for part in parts if not part.isdecimal()]
        last = names[-1] if names else ""
        fields = {
            "upload": FILE_FIELD,
            "evaluation": "method",
            "dataset": FILE_FIELD,
            "exclude": "label",
            "columns": "label",
        }
        return fields.get(last, last), ""
