"""The result of a musicgen job, as the API shows it. Types alone: the engine's tests check its results against them."""

from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from shared.schemas.documented import documented


@documented
class SampleWarning(TypedDict):
    """A fault in the sound of the model's output."""

    code: str
    """Stable name of the fault."""
    detail: str
    """What is wrong and what may help, in English."""


@documented
class Sample(TypedDict):
    """One generated sample."""

    prompt: str | None
    seed: int
    """With it, the same parameters and the same engine generate the same codes again."""
    duration_s: float
    audio: str
    """Name of the artifact."""
    codes: str
    """Name of the artifact."""
    peak_dbfs: float | None
    """Null for silence."""
    lufs: float | None
    """Null for silence, and for audio that is too short to measure."""
    warnings: list[SampleWarning]
    """Faults in the sound of the model's output."""


@documented
class MusicgenResult(TypedDict):
    """The samples, and how fast they were generated."""

    sampling_rate: int
    """In hertz."""
    frame_rate: int
    """Of the codes, in hertz."""
    samples: list[Sample]
    tokens_per_s: float | None
    realtime_factor: float
    """Seconds of music per second of computation."""
    engine: str
    precision: str
