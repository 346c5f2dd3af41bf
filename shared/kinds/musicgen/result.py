"""What a musicgen job that succeeded has found. Types alone: an engine's tests check that its results are like this."""

from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from shared.schemas.documented import documented


@documented
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


@documented
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
