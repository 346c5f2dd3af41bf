"""The parameters of a knn job."""

from collections.abc import Mapping
from enum import StrEnum
from math import floor
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from shared.schemas.strict import Strict, inconsistency
from shared.tables import facts
from shared.texts import text

MAX_K = 1_000
MAX_KS = 100
MAX_SEED = 2**32 - 1
# The location of a pydantic error mixes tags of unions with names of fields, so no tag may have the name of a field.
_BUILTIN, _UPLOADED, _ONE_K, _MANY_KS = "(builtin)", "(uploaded)", "(one k)", "(many ks)"
_COUNT, _SHARE, _AUTO, _CHOSEN = "(count)", "(share)", "(auto)", "(chosen)"
UPLOAD_TRAIN_SHARE: Final = 0.7
"""The share of the training part of a hold-out evaluation of an upload, if the request gives no size."""

Task = facts.Task


class Metric(StrEnum):
    """The distance between two rows."""

    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    MINKOWSKI = "minkowski"
    HAMMING = "hamming"
    MAHALANOBIS = "mahalanobis"
    BHATTACHARYYA = "bhattacharyya"


class Weights(StrEnum):
    """The weight of each neighbour's vote."""

    UNIFORM = "uniform"
    DISTANCE = "distance"


class Normalisation(StrEnum):
    """How attributes are scaled. The scaling is computed from the training part only."""

    NONE = "none"
    ZSCORE = "zscore"
    MINMAX = "minmax"


class TextColumns(StrEnum):
    """What is done with attributes that are text."""

    ONEHOT = "onehot"
    ORDINAL = "ordinal"
    DROP = "drop"
    REFUSE = "refuse"


class Missing(StrEnum):
    """What is done with rows in which an attribute is missing."""

    IMPUTE = "impute"
    DROP_ROWS = "drop_rows"
    REFUSE = "refuse"


class Ties(StrEnum):
    """Which of the rows at equal distance is nearer: by a random order of all rows, or by the order in the file."""

    SHUFFLED = "shuffled"
    ORDER = "order"


class BuiltinDataset(Strict):
    """A built-in data set."""

    name: Literal["wine"]


def _switch_kind(value: object) -> str:
    return _AUTO if isinstance(value, str) else _CHOSEN


Switch = Annotated[Annotated[Literal["auto"], Tag(_AUTO)] | Annotated[bool, Tag(_CHOSEN)], Discriminator(_switch_kind)]
"""``auto``, true or false. Not one `Literal`, for which pydantic accepts 1 as true."""
Reference = str | int
"""A column of a table: its name, or its index, counted from 0. Negative indices count from the end."""


class UploadedDataset(Strict):
    """A table that was uploaded before.

    ``label`` is the column to predict; null chooses the column that the inspection of the upload suggests. The
    attributes are ``columns``, or, if it is null, all other columns, in either case without ``exclude``. If both are
    null, the columns are left out that the inspection suggests to leave out. A column is given by its name, or by its
    index, counted from 0; negative indices count from the end.

    ``"auto"`` stands for what the inspection detects. The delimiter ``" "`` is a run of blanks and tabs. ``sheet`` is
    the sheet of a workbook; the first one if it is null.

    With ``text_columns``, columns of text are one-hot encoded (up to 30 values; columns with more values are left out),
    replaced by numbers in alphabetical order (``ordinal``), left out (``drop``), or refused. With ``missing``, missing
    cells are imputed (the median of numbers, the most frequent value of text and booleans), or their rows are left
    out, or they are refused. Everything is fitted on the training part alone.
    """

    upload: str
    label: Reference | None = None
    header: Switch = "auto"
    delimiter: Literal["auto", ",", ";", "\t", "|", " "] = "auto"
    decimal: Literal["auto", ".", ","] = "auto"
    encoding: Literal["auto", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1", "gb18030"] = "auto"
    sheet: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    columns: list[Reference] | None = None
    exclude: list[Reference] | None = None
    text_columns: Annotated[TextColumns, Field(strict=False)] = TextColumns.ONEHOT
    missing: Annotated[Missing, Field(strict=False)] = Missing.IMPUTE

    @property
    def read_options(self) -> facts.ReadOptions:
        """How the file is read."""
        return facts.ReadOptions(
            header=None if isinstance(self.header, str) else self.header,
            delimiter=None if self.delimiter == "auto" else self.delimiter,
            decimal=None if self.decimal == "auto" else self.decimal,
            encoding=None if self.encoding == "auto" else self.encoding,
            sheet=self.sheet,
        )


def _size_kind(value: object) -> str:
    return _SHARE if isinstance(value, float) else _COUNT


TrainSize = Annotated[
    Annotated[int, Field(ge=1), Tag(_COUNT)] | Annotated[float, Field(gt=0, lt=1), Tag(_SHARE)],
    Discriminator(_size_kind),
]


class Holdout(Strict):
    """One random split: some rows are the training part, the other rows are predicted.

    ``train_size`` is the number of training rows, or, below 1, their share. The default is 128 rows for the built-in
    data set, and 0.7 for uploads.
    """

    method: Literal["holdout"] = "holdout"
    train_size: TrainSize = 128
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    stratify: Switch = "auto"

    @property
    def min_class_rows(self) -> int:
        """The number of rows that each class must have for stratified parts: one for each part."""
        return 2

    def count_training(self, rows: int) -> int:
        """Return the number of training rows of a table; a share of its rows is rounded down, as scikit-learn does."""
        return self.train_size if isinstance(self.train_size, int) else floor(self.train_size * rows)


class KFold(Strict):
    """Every row is predicted once per repeat, from the rows of the other folds.

    If the task is classification and ``stratify`` is true or ``"auto"``, each fold has the same share of each class.
    Classes with fewer rows than there are folds are refused if ``stratify`` is true, and a warning if it is ``"auto"``.
    """

    method: Literal["kfold"]
    folds: Annotated[int, Field(ge=2, le=1_000)] = 10
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    stratify: Switch = "auto"

    @property
    def min_class_rows(self) -> int:
        """The number of rows that each class must have for stratified folds: one for each fold."""
        return self.folds


class LeaveOneOut(Strict):
    """Every row is predicted from all other rows. The seed is that of the order of rows at equal distance."""

    method: Literal["loo"]
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0


def _dataset_kind(value: object) -> str | None:
    """Return the tag of a ``dataset``. Only an uploaded data set has the key ``upload``."""
    if isinstance(value, Mapping):
        return _UPLOADED if "upload" in value else _BUILTIN
    if isinstance(value, UploadedDataset):
        return _UPLOADED
    return _BUILTIN if isinstance(value, BuiltinDataset) else None


def _k_kind(value: object) -> str:
    return _MANY_KS if isinstance(value, list | tuple) else _ONE_K


K = Annotated[int, Field(ge=1, le=MAX_K)]
Dataset = Annotated[
    Annotated[BuiltinDataset, Tag(_BUILTIN)] | Annotated[UploadedDataset, Tag(_UPLOADED)],
    Discriminator(
        _dataset_kind,
        custom_error_type="dataset",
        custom_error_message='give {"name": "wine"}, or {"upload": ID, "label": column}',
    ),
]
Evaluation = Annotated[Holdout | KFold | LeaveOneOut, Discriminator("method")]


class KnnParams(Strict):
    """Evaluate a k-nearest-neighbours classifier or regressor on a data set.

    If ``task`` is null, it is guessed from the label. With ``ties`` ``"shuffled"``, one random order of all rows, made
    from the seed of the evaluation, decides which of the rows at equal distance are neighbours; with ``"order"``, the
    order of the file decides.
    """

    dataset: Dataset = BuiltinDataset(name="wine")
    task: Annotated[Task, Field(strict=False)] | None = None
    k: Annotated[
        Annotated[K, Tag(_ONE_K)] | Annotated[list[K], Field(min_length=1, max_length=MAX_KS), Tag(_MANY_KS)],
        Discriminator(_k_kind),
    ] = 5
    metric: Annotated[Metric, Field(strict=False)] = Metric.EUCLIDEAN
    p: Annotated[float, Field(ge=1, le=32)] = 2.0
    weights: Annotated[Weights, Field(strict=False)] = Weights.UNIFORM
    normalise: Annotated[Normalisation, Field(strict=False)] = Normalisation.NONE
    ties: Annotated[Ties, Field(strict=False)] = Ties.SHUFFLED
    evaluation: Evaluation = Holdout()

    @property
    def ks(self) -> list[int]:
        """The values of k to evaluate, in ascending order and without duplicates."""
        return sorted({self.k} if isinstance(self.k, int) else set(self.k))

    @property
    def known_task(self) -> Task:
        """The task of complete parameters.

        Raises
        ------
        ValueError
            The task has not been guessed yet.
        """
        if self.task is None:
            raise ValueError("the task is not known yet")
        return self.task

    @property
    def is_stratified(self) -> bool:
        """Whether the parts of the evaluation have the same shares of the classes."""
        if self.task is Task.REGRESSION or isinstance(self.evaluation, LeaveOneOut):
            return False
        stratify = self.evaluation.stratify
        return isinstance(self.evaluation, KFold) if isinstance(stratify, str) else stratify

    @model_validator(mode="before")
    @classmethod
    def _complete_evaluation(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic hands over what the client sent
        """Add the method ``holdout`` if the evaluation has no method, and the size of an upload's training part."""
        if not isinstance(data, dict):
            return data
        evaluation = data.get("evaluation", {})
        if not isinstance(evaluation, dict):
            return data
        evaluation = {"method": "holdout", **evaluation}
        if evaluation["method"] == "holdout" and _dataset_kind(data.get("dataset")) == _UPLOADED:
            evaluation = {"train_size": UPLOAD_TRAIN_SHARE, **evaluation}
        return data | {"evaluation": evaluation}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.metric is not Metric.MINKOWSKI and "p" in self.model_fields_set and self.p != 2.0:  # noqa: PLR2004 - p's default
            raise inconsistency("p", text("p-without-minkowski"))
        if self.metric is Metric.BHATTACHARYYA and self.normalise is Normalisation.ZSCORE:
            raise inconsistency("normalise", text("bhattacharyya-zscore"))
        return self
