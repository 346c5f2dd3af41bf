"""The result of a knn job that succeeded. Only types; the tests of the engine check its results against them."""

from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from shared.jobs import DeviceClass
from shared.schemas.documented import documented


@documented
class ClassScore(TypedDict):
    """How well one k classifies."""

    k: int
    accuracy: float
    accuracy_std: float | None
    """Over the folds; null if there are none."""
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
PerClass.__doc__ = "How well one class is distinguished from the others."


@documented
class KnnResult(TypedDict):
    """The scores of every k, and more of the best."""

    scores: list[ClassScore | ValueScore]
    best_k: int
    """Of equally good ones the smallest."""
    classes: list[str] | None
    """Null for regression, as are the next two."""
    confusion: list[list[int]] | None
    """Of the best k: true classes in rows, predicted ones in columns."""
    per_class: list[PerClass] | None
    n_train: int
    n_test: int
    device: DeviceClass
    compute_s: float
