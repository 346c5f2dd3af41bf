"""The result of a musicgen job, as the API shows it.

These are only types; the tests of the engine check the results of the engine against these types.
"""

from typing_extensions import TypedDict  # pydantic reads typing.TypedDict only from Python 3.12 on

from shared.schemas.documented import documented


@documented
class SampleWarning(TypedDict):
    """A fault in the sound of the model's output, or of the file."""

    code: str
    """Stable name of the fault."""
    detail: str
    """What is wrong and what may help, in English."""


@documented
class Sample(TypedDict):
    """One generated sample."""

    prompt: str | None
    seed: int
    """The same codes are generated again if a job has this seed, the same parameters and the same engine."""
    duration_s: float
    audio: str
    """Name of the artifact with the audio."""
    codes: str
    """Name of the artifact with the codes."""
    peak_dbfs: float | None
    """The level of the largest sample in the file, as a player decodes it. Null for silence."""
    lufs: float | None
    """The loudness of the file. Null for silence, and for audio that is too short to measure."""
    warnings: list[SampleWarning]
    """Faults in the sound of the model's output, and clipping in the file."""


@documented
class MusicgenResult(TypedDict):
    """The samples, and how fast they were generated."""

    sampling_rate: int
    """The sampling rate of the audio files, in hertz."""
    frame_rate: int
    """The frame rate of the codes, in hertz."""
    samples: list[Sample]
    tokens_per_s: float | None
    realtime_factor: float
    """Seconds of music per second of computation."""
    engine: str
    precision: str
