"""Audio prompts: the wanted part of an uploaded clip, in the model's rate and channels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from shared.errors import JobFailedError
from shared.kinds.musicgen.parameters import AudioPrompt

BLOCK: Final = 1 << 16
"""Samples decoded at a time where there are more than two channels: a small file can hold silence in 255 of them."""
RUN_UP_S: Final = 2.0
"""Decoded before the part and thrown away: an MP3 frame takes its data from frames before it, at low bit rates
from up to 1.3 s, and is damaged where the decoder has just jumped there."""
SHORTEST_S: Final = 0.1
SLACK_S: Final = 0.01
"""How far ``end_s`` may lie beyond the clip's end: players round lengths to hundredths."""
RATES_HZ: Final = range(1_000, 768_001)
QUALITY: Final = "VHQ"


@dataclass(frozen=True)
class ClipForm:
    """What a model takes.

    Parameters
    ----------
    sample_rate_hz
        Its sampling rate.
    channels
        1 or 2.
    longest_s
        Up to which length it can continue a clip.
    """

    sample_rate_hz: int
    channels: int
    longest_s: float


def read_clip(path: Path, prompt: AudioPrompt, form: ClipForm, where: str) -> NDArray[np.float32]:
    """Read the part of a clip that a prompt names; only that part is decoded.

    A clip for a mono model is the mean of its channels. For a stereo model,
    stereo stays as it is, and anything else is the mean on both sides.

    Parameters
    ----------
    path
        A file in any format that libsndfile reads, of any rate and number of channels.
    prompt
        Which part; without an end it goes on to the clip's.
    form
        What the model takes.
    where
        The prompt's place in the request, ``params.audio_prompts[0]``, for what the user is told.

    Returns
    -------
    NDArray[np.float32]
        Shape (channels, samples), nominally -1 to 1; of n samples at the clip's own rate there are
        exactly ``round(n * sample_rate_hz / own rate)``.

    Raises
    ------
    JobFailedError
        ``clip-unreadable``, ``clip-empty``, ``clip-range`` or ``clip-too-long``.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz: int = file.samplerate
            if rate_hz not in RATES_HZ:
                raise _refuse(
                    "clip-unreadable", where, f"is sampled at {rate_hz} Hz; upload it at 44100 Hz, for example"
                )
            if not file.frames:
                raise _refuse("clip-empty", where, "holds no sound at all; upload another file")
            first, last = _choose_part(prompt, form, file.frames / rate_hz, where)
            part = _decode(file, round(first * rate_hz), round(last * rate_hz), form.channels)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" .") or "it is damaged"
        raise _refuse(
            "clip-unreadable", where, f"cannot be decoded ({reason}); upload a whole file in WAV, FLAC, OGG or MP3"
        ) from error
    decoded_s = len(part) / rate_hz
    if prompt.end_s is not None and decoded_s < last - first - SLACK_S:
        raise _refuse("clip-range", where, f"breaks off after {first + decoded_s:.2f} s; set end_s to that, or less")
    if decoded_s < SHORTEST_S:
        raise _refuse("clip-range", where, f"gives only {decoded_s:.3f} s to continue; take {SHORTEST_S:g} s or more")
    if not np.isfinite(part).all():
        raise _refuse("clip-unreadable", where, "has samples that are not finite numbers; upload a sound file of it")
    return np.ascontiguousarray(_resample(part, rate_hz, form.sample_rate_hz).T)


def _choose_part(prompt: AudioPrompt, form: ClipForm, length_s: float, where: str) -> tuple[float, float]:
    """Return where the part begins and ends, in seconds."""
    if prompt.start_s >= length_s:
        raise _refuse("clip-range", where, f"is {length_s:.2f} s long; set start_s, {prompt.start_s:g} now, below that")
    if prompt.end_s is not None and prompt.end_s > length_s + SLACK_S:
        raise _refuse(
            "clip-range", where, f"is {length_s:.2f} s long; set end_s, {prompt.end_s:g} now, to that, or leave it out"
        )
    last = length_s if prompt.end_s is None else min(prompt.end_s, length_s)
    if last - prompt.start_s > form.longest_s:
        raise _refuse(
            "clip-too-long",
            where,
            f"gives {last - prompt.start_s:.2f} s to continue, and there is room for {form.longest_s:.2f} s; "
            f"set end_s to {prompt.start_s + form.longest_s:.2f} or less",
        )
    return prompt.start_s, last


def _decode(file: soundfile.SoundFile, first: int, last: int, channels: int) -> NDArray[np.float32]:
    """Decode samples first to last, shape (samples, channels); fewer where the header promised too many.

    soundfile jumps after each read, to where it is already, and an MP3 is
    damaged at each jump: mono and stereo, and so every MP3, are read at once.
    """
    place = max(first - round(RUN_UP_S * file.samplerate), 0)
    file.seek(place)
    at_once = BLOCK if file.channels > 2 else last - place  # noqa: PLR2004 - stereo
    mixed = [np.zeros((0, channels), np.float32)]
    while place < last:
        block = file.read(min(at_once, last - place), dtype="float32", always_2d=True)
        if not len(block):
            break
        mixed.append(_mix(block[max(first - place, 0) :], channels))
        place += len(block)
    return np.concatenate(mixed)


def _mix(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if block.shape[1] == channels:
        return block
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found, and told, at the end
        return np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)


def _resample(part: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resample, shape (samples, channels), to the exact length.

    EnCodec frames its input by counting samples, so a resampler that rounds
    down moves the last frame and the codes with it. soxr takes what lies
    beyond the end for zeros; appending an output sample's worth of them
    changes no value and makes sure that the last one comes.
    """
    if from_hz == to_hz:
        return part
    length = round(len(part) * to_hz / from_hz)
    tail = np.zeros((-(-from_hz // to_hz), part.shape[1]), np.float32)
    resampled: NDArray[np.float32] = soxr.resample(np.concatenate([part, tail]), from_hz, to_hz, QUALITY)[:length]
    if len(resampled) != length:
        raise ValueError(f"soxr made {len(resampled)} samples at {to_hz} Hz of {len(part)} at {from_hz} Hz")
    return resampled


def _refuse(error_type: str, where: str, what: str) -> JobFailedError:
    return JobFailedError(error_type, f"The clip of {where} {what}.")
