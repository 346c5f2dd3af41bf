"""Reads audio prompts: the requested part of an uploaded file, with the sampling rate and the channels of the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from shared.errors import JobFailedError
from shared.kinds.musicgen.parameters import AudioPrompt
from shared.texts import Value, text
from worker.engines.musicgen.audio.resampling import resample

BLOCK_SAMPLES: Final = 1 << 16
"""How many samples are decoded at a time if the file has more than two channels. A small file can contain 255 silent
channels, which would need much memory if all requested samples were decoded at once."""
PREROLL_S: Final = 2.0
"""How much audio before the requested part is also decoded, and then discarded. An MP3 frame uses data of earlier
frames; at low bit rates, these are up to 1.3 s earlier. So the first frames after a jump of the decoder are damaged."""
MIN_CLIP_S: Final = 0.1
END_TOLERANCE_S: Final = 0.01
"""How far ``end_s`` may be beyond the end of the file: players round lengths to hundredths of a second."""
RATES_HZ: Final = range(1_000, 768_001)


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


def read_clip(path: Path, prompt: AudioPrompt, clip_format: ClipFormat, where: str) -> NDArray[np.float32]:
    """Read the part of an uploaded file that an audio prompt requests.

    Only this part, and ``PREROLL_S`` before it, is decoded. For a mono model, the channels
    of the file are averaged. For a stereo model, the channels of a stereo file are not changed;
    for a file with any other number of channels, left and right both get the average.

    Parameters
    ----------
    path
        A file in any format that libsndfile reads, with any sampling rate and number of channels.
    prompt
        The part to read; if ``prompt.end_s`` is ``None``, the part extends to the end of the file.
    clip_format
        The audio that the model accepts.
    where
        The place of the prompt in the request, which errors show, for example ``params.audio_prompts[0]``.

    Returns
    -------
    NDArray[np.float32]
        Shape (channels, samples), nominally -1 to 1. From n samples of the file, exactly
        ``round(n * sample_rate_hz / sampling rate of the file)`` samples are made.

    Raises
    ------
    JobFailedError
        ``clip-unreadable``, ``clip-empty``, ``clip-range`` or ``clip-too-long``.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz: int = file.samplerate
            if rate_hz not in RATES_HZ:
                raise _refuse("clip-unreadable", "clip-rate", where, rate_hz=rate_hz)
            if not file.frames:
                raise _refuse("clip-empty", "clip-empty", where)
            first, last = _choose_part(prompt, clip_format, file.frames / rate_hz, where)
            part = _decode(file, round(first * rate_hz), round(last * rate_hz), clip_format.channels)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" .") or "the file is damaged"
        raise _refuse("clip-unreadable", "clip-undecodable", where, reason=reason) from error
    decoded_s = len(part) / rate_hz
    if prompt.end_s is not None and decoded_s < last - first - END_TOLERANCE_S:
        raise _refuse("clip-range", "clip-incomplete", where, decoded_s=first + decoded_s)
    if decoded_s < MIN_CLIP_S:
        raise _refuse("clip-range", "clip-too-short", where, length_s=decoded_s, min_length_s=MIN_CLIP_S)
    if not np.isfinite(part).all():
        raise _refuse("clip-unreadable", "clip-not-finite", where)
    return np.ascontiguousarray(resample(part, rate_hz, clip_format.sample_rate_hz).T)


def _choose_part(prompt: AudioPrompt, clip_format: ClipFormat, length_s: float, where: str) -> tuple[float, float]:
    """Return the start and the end of the part, in seconds."""
    if prompt.start_s >= length_s:
        raise _refuse("clip-range", "clip-start-beyond-end", where, length_s=length_s, start_s=prompt.start_s)
    if prompt.end_s is not None and prompt.end_s > length_s + END_TOLERANCE_S:
        raise _refuse("clip-range", "clip-end-beyond-end", where, length_s=length_s, end_s=prompt.end_s)
    last = length_s if prompt.end_s is None else min(prompt.end_s, length_s)
    if last - prompt.start_s > clip_format.max_length_s:
        raise _refuse(
            "clip-too-long",
            "clip-too-long",
            where,
            length_s=last - prompt.start_s,
            max_length_s=clip_format.max_length_s,
            max_end_s=prompt.start_s + clip_format.max_length_s,
        )
    return prompt.start_s, last


def _decode(file: soundfile.SoundFile, first: int, last: int, channels: int) -> NDArray[np.float32]:
    """Decode the samples from ``first`` to ``last`` (excluded): shape (samples, channels).

    The result is shorter if the file has fewer samples than its header says. After each read, soundfile
    seeks, even if only to the current position, and each seek damages the audio of an MP3 file. Every MP3
    file is mono or stereo. So mono and stereo files are read in one call.
    """
    position = max(first - round(PREROLL_S * file.samplerate), 0)
    file.seek(position)
    block_samples = BLOCK_SAMPLES if file.channels > 2 else last - position  # noqa: PLR2004 - stereo
    mixed = [np.zeros((0, channels), np.float32)]
    while position < last:
        block = file.read(min(block_samples, last - position), dtype="float32", always_2d=True)
        if not len(block):
            break
        mixed.append(_mix(block[max(first - position, 0) :], channels))
        position += len(block)
    return np.concatenate(mixed)


def _mix(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if block.shape[1] == channels:
        return block
    with np.errstate(over="ignore", invalid="ignore"):  # `read_clip` finds and reports values that are not finite
        return np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)


def _refuse(error_type: str, code: str, where: str, **values: Value) -> JobFailedError:
    return JobFailedError(error_type, text(code, where=where, **values))
