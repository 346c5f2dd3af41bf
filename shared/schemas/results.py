"""What a job that succeeded has found. Types alone: an engine's tests check that its results are like this."""

from collections.abc import Mapping
from typing import Final

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from shared.jobs import DeviceClass, Kind

# The text below a field becomes its description.
_documented = with_config(ConfigDict(use_attribute_docstrings=True))


@_documented
class ClassScore(TypedDict):
    """How well one k classifies."""

    k: int
    accuracy: float
    accuracy_std: float | None
    """Over the folds; null where there are none."""
    macro_f1: float


@_documented
class ValueScore(TypedDict):
    """How well one k predicts values."""

    k: int
    rmse: float
    mae: float
    r2: float | None
    """Null where the true values are all equal."""


PerClass = TypedDict("PerClass", {"class": str, "precision": float, "recall": float, "f1": float, "support": int})
PerClass.__doc__ = "How well one class is told from the others."


@_documented
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


@_documented
class Sample(TypedDict):
    """One piece of music."""

    prompt: str | None
    seed: int
    """Gives the same codes again, with the same parameters and engine."""
    duration_s: float
    audio: str
    """Name of the artifact."""
    codes: str
    """Name of the artifact."""
    peak_dbfs: float | None
    """Null for silence."""
    lufs: float | None
    """Null for silence, and for what is too short to measure."""
    warnings: list[str]
    """What is wrong with how the model's output sounds."""


@_documented
class MusicgenResult(TypedDict):
    """The samples, and how fast they were made."""

    sampling_rate: int
    """In hertz."""
    frame_rate: int
    """Of the codes, in hertz."""
    samples: list[Sample]
    tokens_per_s: float | None
    realtime_factor: float
    """Seconds of music per second of computing."""
    engine: str
    precision: str


Result = KnnResult | MusicgenResult
RESULTS: Final[Mapping[Kind, type[Result]]] = {Kind.KNN: KnnResult, Kind.MUSICGEN: MusicgenResult}
