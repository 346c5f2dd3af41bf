"""Reads audio prompts: the requested part of an uploaded file, with the sampling rate and the channels of the model.

A process without rights decodes the file (`shared.inspection.clips`), since a decoder that a file has taken over could
otherwise do whatever the worker can. What it returns may be anything, and is checked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.audio.facts import END_TOLERANCE_S, MIN_CLIP_S, Warnings
from shared.errors import JobFailedError
from shared.inspection.sandbox import MAX_ANSWER_BYTES, Answer, ProcessLostError, SandboxedProcess
from shared.kinds.musicgen.judgement import measure_part
from shared.kinds.musicgen.lengths import ROUNDING
from shared.kinds.musicgen.parameters import AudioPrompt
from shared.settings import Settings
from shared.texts import Text, Value, text

FUNCTION: Final = "shared.inspection.clips:decode"
MAX_ATTEMPTS: Final = 3
"""How many processes are started if one ends before it gets the file, as it does if the system needs its memory."""
_EMPTY: Final = "sound-empty"
_SAMPLE_BYTES: Final = 4


@dataclass(frozen=True)
class ClipFormat:
    """The audio that a model accepts.

    Parameters
    ----------
    sample_rate_hz
        The sampling rate.
    channels
        Number of channels: 1 or 2.
    max_length_s
        Length of the longest clip that the model can continue.
    """

    sample_rate_hz: int
    channels: int
    max_length_s: float


@dataclass(frozen=True)
class DecodingLimits:
    """What the process that decodes a file may use.

    Parameters
    ----------
    memory_mb
        Its memory.
    timeout_s
        How long it may take.
    max_audio_s
        How much audio it may decode, in seconds.
    """

    memory_mb: int
    timeout_s: float
    max_audio_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits of an inspection, which decodes the same file."""
        return cls(settings.inspection_memory_mb, settings.inspection_timeout_s, settings.max_audio_s)


@dataclass(frozen=True)
class Clip:
    """The part of a file that an audio prompt requests.

    Parameters
    ----------
    audio
        Shape (channels, samples), nominally -1 to 1.
    warnings
        What is unusual about the part.
    """

    audio: NDArray[np.float32]
    warnings: tuple[Text, ...] = ()


class _Found(BaseModel):
    """What the process found out, besides the samples; see `shared.audio.part.DecodedPart`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    read_s: float = Field(ge=0)
    part_s: float = Field(ge=0)
    ended: bool
    warnings: Warnings


def read_clip(  # noqa: PLR0913 - what is read, for what, and how
    path: Path,
    prompt: AudioPrompt,
    clip_format: ClipFormat,
    where: str,
    *,
    limits: DecodingLimits,
    check_wanted: Callable[[], object],
) -> Clip:
    """Read the part of an uploaded file that an audio prompt requests.

    Parameters
    ----------
    path
        The file.
    prompt
        The part to read; if ``prompt.end_s`` is ``None``, the part extends to the end of the file.
    clip_format
        The audio that the model accepts.
    where
        The place of the prompt in the request, which errors show, for example ``params.audio_prompts[0]``.
    limits
        What the process that decodes the file may use.
    check_wanted
        Is called regularly; if it raises, the process is killed, and the error is passed on.

    Raises
    ------
    JobFailedError
        ``clip-unreadable``, ``clip-empty``, ``clip-range`` or ``clip-too-long``.
    """
    answer = _decode(path, prompt, clip_format, limits=limits, check_wanted=check_wanted)
    if answer.problem is not None:
        error_type = "clip-empty" if answer.problem.code == _EMPTY else "clip-unreadable"
        raise JobFailedError(error_type, Text("clip-problem", {"where": where}, (answer.problem,)))
    try:
        found = _Found.model_validate(answer.facts)
    except ValidationError as error:
        raise _refuse("clip-unreadable", "clip-undecodable", where) from error
    _check_part(prompt, clip_format, found, where)
    audio = np.frombuffer(answer.content[: len(answer.content) // _SAMPLE_BYTES * _SAMPLE_BYTES], np.float32)
    # Each change of the rate on the way rounds the length once more.
    length = found.part_s * clip_format.sample_rate_hz * clip_format.channels
    if (
        len(audio) % clip_format.channels
        or not abs(len(audio) - length) <= 0.01 * length
        or not np.isfinite(audio).all()
    ):
        raise _refuse("clip-unreadable", "clip-undecodable", where)
    warnings = [Text("clip-warning", {}, (warning,)) for warning in found.warnings]
    # The ends of a part are rounded to samples of the file. The model gets no sample more than the submission counted.
    samples = round(measure_part(prompt, found.read_s) * clip_format.sample_rate_hz)
    return Clip(audio.reshape(clip_format.channels, -1)[:, :samples], tuple(warnings))


def _decode(
    path: Path,
    prompt: AudioPrompt,
    clip_format: ClipFormat,
    *,
    limits: DecodingLimits,
    check_wanted: Callable[[], object],
) -> Answer:
    wanted = {
        "start_s": prompt.start_s,
        "end_s": prompt.end_s,
        "max_length_s": clip_format.max_length_s,
        "rate_hz": clip_format.sample_rate_hz,
        "channels": clip_format.channels,
    }

    def is_wanted() -> bool:
        check_wanted()
        return True

    bytes_per_s = clip_format.sample_rate_hz * clip_format.channels * _SAMPLE_BYTES
    max_bytes = MAX_ANSWER_BYTES + int((clip_format.max_length_s + 1) * bytes_per_s)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with path.open("rb") as file:
            process = SandboxedProcess(FUNCTION, limits.memory_mb, limits.timeout_s, max_bytes)
            try:
                return process.inspect(file, {"max_s": limits.max_audio_s, "wanted": wanted}, is_wanted)
            except ProcessLostError:
                if attempt == MAX_ATTEMPTS:
                    return Answer(problem=text("inspection-lost", attempts=MAX_ATTEMPTS))
    raise AssertionError("the last attempt returns")


def _check_part(prompt: AudioPrompt, clip_format: ClipFormat, found: _Found, where: str) -> None:
    """Refuse a part that the file does not have, or that the model cannot continue."""
    length_s, max_length_s = found.read_s, clip_format.max_length_s
    if found.ended and prompt.start_s >= length_s:
        raise _refuse("clip-range", "clip-start-beyond-end", where, length_s=length_s, start_s=prompt.start_s)
    if found.ended and prompt.end_s is not None and prompt.end_s > length_s + END_TOLERANCE_S:
        raise _refuse("clip-range", "clip-end-beyond-end", where, length_s=length_s, end_s=prompt.end_s)
    if found.part_s > max_length_s:
        limits = {"max_length_s": max_length_s, "max_end_s": prompt.start_s + max_length_s}
        raise _refuse("clip-too-long", "clip-too-long", where, length_s=found.part_s, **limits)
    if not found.part_s or measure_part(prompt, length_s) < MIN_CLIP_S - ROUNDING:
        raise _refuse("clip-range", "clip-too-short", where, length_s=found.part_s, min_length_s=MIN_CLIP_S)


def _refuse(error_type: str, code: str, where: str, **values: Value) -> JobFailedError:
    return JobFailedError(error_type, text(code, where=where, **values))
