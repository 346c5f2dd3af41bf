"""The parameters of a musicgen job."""

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.jobs import DeviceClass
from shared.schemas.strict import Strict, inconsistency
from shared.texts import text

DEFAULT_DURATION_S = 10.0
MAX_PROMPTS = 64
MAX_SAMPLES = 64
"""The maximum number of samples per prompt."""
MAX_SEED = 2**63 - 1


class Format(StrEnum):
    """The format of the audio files: WAV of 32-bit floats or of 16-bit integers, FLAC of 24 bits, MP3, Ogg Vorbis."""

    WAV = "wav"
    WAV16 = "wav16"
    FLAC = "flac"
    MP3 = "mp3"
    OGG = "ogg"

    @property
    def extension(self) -> str:
        """The end of the names of files, without the dot."""
        return "wav" if self is Format.WAV16 else str(self)


MEDIA_TYPES: Final = {
    Format.WAV: "audio/wav",
    Format.WAV16: "audio/wav",
    Format.FLAC: "audio/flac",
    Format.MP3: "audio/mpeg",
    Format.OGG: "audio/ogg",
}


class Loudness(StrEnum):
    """How the level of the audio is adjusted."""

    NONE = "none"
    PEAK = "peak"
    RMS = "rms"
    LUFS = "lufs"


class Precision(StrEnum):
    """The precision in which the model computes; ``auto`` means the default precision of the backend."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"


PRECISIONS: Final = {
    DeviceClass.CPU: (Precision.FLOAT32, Precision.BFLOAT16, Precision.INT8, Precision.INT4),
    DeviceClass.GPU: (Precision.FLOAT16, Precision.FLOAT32),
    DeviceClass.ASCEND: (Precision.FLOAT16, Precision.BFLOAT16, Precision.FLOAT32),
}
"""The precisions that a backend can have on each device class. Which of them a device offers, its worker says."""


class AudioPrompt(Strict):
    """A part of an uploaded clip that the music continues."""

    upload: str
    start_s: Annotated[float, Field(ge=0)] = 0.0
    end_s: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise inconsistency("end_s", text("clip-end-before-start", start_s=self.start_s))
        return self


Prompt = Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=r"\S")]


class MusicgenParams(Strict):
    """Generate music from text, from audio, from both, or unconditionally."""

    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")] = (
        "facebook/musicgen-small"
    )
    prompts: Annotated[list[Prompt], Field(max_length=MAX_PROMPTS)] = Field(default_factory=list)
    num_samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] = 1
    audio_prompts: Annotated[list[AudioPrompt], Field(max_length=MAX_PROMPTS)] = Field(default_factory=list)
    duration_s: Annotated[float, Field(gt=0, le=600)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=30_000)] | None = None
    do_sample: bool = True
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = 3.0
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=2_048)] = 250
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    precision: Annotated[Precision, Field(strict=False)] = Precision.AUTO
    format: Annotated[Format, Field(strict=False)] = Format.WAV
    sample_rate: Literal[44_100, 48_000] | None = None
    loudness: Annotated[Loudness, Field(strict=False)] = Loudness.NONE

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.duration_s is not None and self.max_new_tokens is not None:
            raise inconsistency("max_new_tokens", text("length-given-twice"))
        if self.duration_s is None and self.max_new_tokens is None:
            # This pydantic model is frozen; only its own validator may set a default, and only in this way.
            object.__setattr__(self, "duration_s", DEFAULT_DURATION_S)
        rows = len(self.prompts)
        if rows and self.audio_prompts and len(self.audio_prompts) != rows:
            raise inconsistency(
                "audio_prompts",
                text("clips-per-prompt", clips=len(self.audio_prompts), prompts=rows),
            )
        return self
