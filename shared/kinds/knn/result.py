"""The result of a knn job that succeeded.

These are only types; the tests of the engine check the results of the engine against these types.
"""

from typing import Literal

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
class Note(TypedDict):
    """A warning, or the reason why something was done."""

    code: str
    """Stable name of the note."""
    detail: str
    """The note in English."""


@documented
class PreparedColumn(TypedDict):
    """What was done to one column of the table."""

    column: str
    index: int
    type: Literal["number", "integer", "boolean", "date", "text", "empty"]
    use: Literal["label", "number", "days", "boolean", "onehot", "ordinal", "left-out"]
    """What the column became. Dates count as days; a boolean is 0 or 1."""
    missing: int
    """The number of missing cells, in all rows of the table."""
    imputed: Literal["median", "most_frequent"] | None
    """By what missing cells were replaced, in each fold that of its training part; null if none was."""
    scaled: bool
    values: int | None
    """The number of different values of a text that was encoded. Each fold has those of its training part."""
    reason: Note | None
    """Why the column is left out; null if it is used."""


@documented
class ReadAs(TypedDict):
    """How the file was read. A field is null if the format of the file has no such property."""

    header: bool | None
    delimiter: str | None
    decimal: str | None
    encoding: str | None
    sheet: str | None


@documented
class Preparation(TypedDict):
    """What was done to the table before the evaluation."""

    rows: int
    """The number of rows of the table."""
    used_rows: int
    dropped_without_label: int
    dropped_with_gaps: int
    """The number of rows that were left out because an attribute was missing."""
    detected: ReadAs | None
    """Null for a built-in data set."""
    columns: list[PreparedColumn]


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
    preparation: Preparation | None
    """Null for a job of an earlier version."""
    warnings: list[Note]
