"""The parameters of a knn job."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from shared.schemas.strict import Strict, inconsistency
from shared.texts import text

MAX_K = 1_000
MAX_KS = 100
MAX_SEED = 2**32 - 1
# The location of a pydantic error mixes tags of unions with names of fields, so no tag may have the name of a field.
_BUILTIN, _UPLOADED, _ONE_K, _MANY_KS = "(builtin)", "(uploaded)", "(one k)", "(many ks)"


class Task(StrEnum):
    """What is predicted from the neighbours."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


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


class BuiltinDataset(Strict):
    """A built-in data set."""

    name: Literal["wine"]


class UploadedDataset(Strict):
    """A CSV file that was uploaded before.

    ``label`` is the column to predict: the name of the column if the file has a header, or the index of the column,
    counted from 0. Negative indices count from the end.
    """

    upload: str
    label: str | int = 0
    header: bool = True


class Holdout(Strict):
    """One random split: ``train_size`` rows are the training part, the other rows are predicted."""

    method: Literal["holdout"] = "holdout"
    train_size: Annotated[int, Field(ge=1)] = 128
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0


class KFold(Strict):
    """Every row is predicted once per repeat, from the rows of the other folds."""

    method: Literal["kfold"]
    folds: Annotated[int, Field(ge=2, le=1_000)] = 10
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0


class LeaveOneOut(Strict):
    """Every row is predicted from all other rows."""

    method: Literal["loo"]


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
        custom_error_message='give {"name": "wine"}, or {"upload": ID, "label": column, "header": true}',
    ),
]
Evaluation = Annotated[Holdout | KFold | LeaveOneOut, Discriminator("method")]


class KnnParams(Strict):
    """Evaluate a k-nearest-neighbours classifier or regressor on a data set."""

    dataset: Dataset = BuiltinDataset(name="wine")
    task: Annotated[Task, Field(strict=False)] = Task.CLASSIFICATION
    k: Annotated[
        Annotated[K, Tag(_ONE_K)] | Annotated[list[K], Field(min_length=1, max_length=MAX_KS), Tag(_MANY_KS)],
        Discriminator(_k_kind),
    ] = 5
    metric: Annotated[Metric, Field(strict=False)] = Metric.EUCLIDEAN
    p: Annotated[float, Field(ge=1, le=32)] = 2.0
    weights: Annotated[Weights, Field(strict=False)] = Weights.UNIFORM
    normalise: Annotated[Normalisation, Field(strict=False)] = Normalisation.NONE
    evaluation: Evaluation = Holdout()

    @property
    def ks(self) -> list[int]:
        """The values of k to evaluate, in ascending order and without duplicates."""
        return sorted({self.k} if isinstance(self.k, int) else set(self.k))

    @model_validator(mode="before")
    @classmethod
    def _default_method(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic hands over what the client sent
        """Add the method ``holdout`` if the evaluation has no method, as in ``{"evaluation": {"train_size": 100}}``."""
        evaluation = data.get("evaluation") if isinstance(data, dict) else None
        if isinstance(evaluation, dict) and "method" not in evaluation:
            return data | {"evaluation": {"method": "holdout", **evaluation}}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.metric is not Metric.MINKOWSKI and "p" in self.model_fields_set and self.p != 2.0:  # noqa: PLR2004 - p's default
            raise inconsistency("p", text("p-without-minkowski"))
        if self.metric is Metric.BHATTACHARYYA and self.normalise is Normalisation.ZSCORE:
            raise inconsistency("normalise", text("bhattacharyya-zscore"))
        return self
