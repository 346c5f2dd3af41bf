"""What an inspection finds in an audio file, stored as JSON with the upload."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.texts import Text, can_render, render

MIN_CLIP_S: Final = 0.1
"""The shortest clip that a model can continue."""
END_TOLERANCE_S: Final = 0.01
"""How far ``end_s`` may be beyond the end of the file: players round lengths to hundredths of a second."""
SILENCE_DBFS: Final = -60.0
"""Audio is silence if all samples are below this level. Silence is not amplified: only noise would become louder."""


MAX_WARNINGS: Final = 20
MAX_WARNING_CHARACTERS: Final = 1_000
MAX_NAME_CHARACTERS: Final = 40


def _check_texts(warnings: list[Text]) -> list[Text]:
    """Refuse texts that cannot be shown: they come from a process that a file may have taken over."""
    for warning in warnings:
        if not can_render(warning) or len(render(warning)) > MAX_WARNING_CHARACTERS:
            raise ValueError("a warning cannot be shown")
    return warnings


Warnings = Annotated[list[Text], Field(max_length=MAX_WARNINGS), AfterValidator(_check_texts)]
"""What is unusual about a sound; each can be put into a sentence."""


class AudioFacts(BaseModel):
    """What an inspection finds in an audio file.

    Parameters
    ----------
    duration_s
        The length of what was decoded, in seconds, not what the file states.
    rate
        The sampling rate in Hz; of the first part, if it changes.
    channels
        The number of channels; of the first part, if it changes.
    format, codec
        The names that FFmpeg gives the container and the codec, for example ``matroska`` and ``opus``.
    warnings
        What is unusual about the sound, or about what was read of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    duration_s: Annotated[float, Field(gt=0)]
    rate: Annotated[int, Field(ge=1, le=10**6)]
    channels: Annotated[int, Field(ge=1, le=1_000)]
    format: Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]
    codec: Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]
    warnings: Warnings = []
