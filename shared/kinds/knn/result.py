"""The result of a knn job that succeeded.

These are only types; the tests of the engine check the results of the engine against these types.
"""

from typing_extensions import TypedDict  # pydantic reads typing.TypedDict only from Python 3.12 on

from shared.jobs import DeviceClass
from shared.schemas.documented import documented


@documented
class ClassScore(TypedDict):
    """How well one k classifies."""

    k: int
    accuracy: float
    accuracy_std: float | None
    """The standard deviation of the accuracy over the folds; null if the evaluation has no folds."""
    macro_f1: float


@documented
class ValueScore(TypedDict):
    """How well one k predicts values."""

    k: int
    rmse: float
    mae: float
    r2: float | None
    """Null if the true values are all equal."""


PerClass = TypedDict("PerClass", {"class": str, "precision": float, "recall": float, "f1": float, "support": int})
PerClass.__doc__ = "The scores of one class: how well its rows are separated from those of the other classes."


@documented
class KnnResult(TypedDict):
    """The scores of every k, and more details of the best k."""

    scores: list[ClassScore | ValueScore]
    best_k: int
    """The k with the best score; the smallest k if several values of k have this score."""
    classes: list[str] | None
    """The names of the classes. For regression, `classes`, `confusion` and `per_class` are null."""
    confusion: list[list[int]] | None
    """The confusion matrix of the best k: true classes in rows, predicted classes in columns."""
    per_class: list[PerClass] | None
    n_train: int
    n_test: int
    device: DeviceClass
    compute_s: float
