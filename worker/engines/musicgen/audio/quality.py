"""Finds faults in generated audio that a listener should know about."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.audio.facts import SILENCE_DBFS
from shared.kinds.musicgen.audio_encoding import CLIPPING_FORMATS
from shared.kinds.musicgen.parameters import Format, Loudness
from shared.texts import Text, text

MAX_INAUDIBLE_CLIPPED: Final = 10
"""If no more samples than this are beyond full scale, the clipping cannot be heard, and there is no warning."""
BLOCK_S: Final = 0.1
"""The music is divided into blocks of this length; each block is either silent or not."""
SILENT_SHARE: Final = 0.5
"""If a larger share of the blocks is silent, there is a warning."""
START_S: Final = 2.0
"""The length of the start of the new music, which is compared with the clip."""
QUIETER_DB: Final = 12.0
"""If the start of the new music is quieter than the clip by more than this, there is a warning."""
MIN_POWER: Final = 1e-30
"""Keeps the logarithm of silence finite: -300 dB."""


def find_warnings(
    audio: NDArray[np.float32], clip: NDArray[np.float32] | None, sample_rate_hz: int, prompt_samples: int = 0
) -> list[Text]:
    """List the faults in the raw output of the model. Clipping is a fault of the file; see `find_clipping`.

    Parameters
    ----------
    audio
        Shape (channels, samples), before the level is adjusted.
    clip
        The audio prompt that ``audio`` continues, shape (channels, samples); ``None`` if there is none.
    sample_rate_hz
        The sampling rate of ``audio`` and ``clip``.
    prompt_samples
        Number of samples at the start of ``audio`` that repeat the clip; the new music follows after them.
    """
    music = audio[:, prompt_samples:]
    warnings = [_find_silence(music, sample_rate_hz)]
    if clip is not None:
        warnings.append(_find_drop(music, clip, sample_rate_hz))
    return [warning for warning in warnings if warning is not None]


def find_clipping(
    audio: NDArray[np.float32], written: NDArray[np.float32], audio_format: Format, loudness: Loudness
) -> Text | None:
    """Find clipping in a file.

    Parameters
    ----------
    audio
        What was encoded, shape (channels, samples).
    written
        What a player decodes from the file, shape (channels, samples).
    audio_format, loudness
        The format of the file, and how its level was adjusted.
    """
    if audio_format in CLIPPING_FORMATS and (cut := _measure_clipping(audio)) is not None:
        return text("audio-cut", share=cut[0], excess_db=cut[1], format=audio_format)
    if (beyond := _measure_clipping(written)) is None:
        return None
    share, excess_db = beyond
    if audio_format is Format.WAV and loudness is Loudness.NONE:
        return text("audio-clipping", share=share, excess_db=excess_db)
    return text("audio-overshoot", share=share, excess_db=excess_db, format=audio_format)


def _measure_clipping(audio: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the share of samples beyond full scale, and by how many dB; ``None`` if this cannot be heard."""
    beyond = sum(int(np.count_nonzero(np.abs(channel) > 1)) for channel in audio)
    if beyond <= MAX_INAUDIBLE_CLIPPED:
        return None
    return beyond / audio.size, 20 * math.log10(max(float(audio.max()), -float(audio.min())))


def _find_silence(music: NDArray[np.float32], sample_rate_hz: int) -> Text | None:
    if not music.size:
        return None
    starts = np.arange(0, music.shape[1], max(round(BLOCK_S * sample_rate_hz), 1))
    energies = np.add.reduceat(np.square(music, dtype=np.float64).mean(axis=0), starts)
    levels_dbfs = 10 * np.log10(np.maximum(energies / np.diff(starts, append=music.shape[1]), MIN_POWER))
    share = float(np.mean(levels_dbfs < SILENCE_DBFS))
    if share <= SILENT_SHARE:
        return None
    if share == 1:
        return text("audio-silent", level_dbfs=SILENCE_DBFS)
    return text("audio-mostly-silent", share=share, level_dbfs=SILENCE_DBFS)


def _find_drop(music: NDArray[np.float32], clip: NDArray[np.float32], sample_rate_hz: int) -> Text | None:
    """Find new music that starts far below the level of the clip: a sign that the model does not continue the clip."""
    start = music[:, : round(START_S * sample_rate_hz)]
    if not start.size:
        return None
    drop_db = _measure_level(clip) - _measure_level(start)
    if drop_db <= QUIETER_DB:
        return None
    start_s = start.shape[1] / sample_rate_hz
    if not start.any():
        return text("audio-starts-silent", start_s=start_s)
    return text("audio-starts-quiet", start_s=start_s, drop_db=drop_db)


def _measure_level(audio: NDArray[np.float32]) -> float:
    """Measure the root mean square, in dBFS."""
    return 10 * math.log10(max(float(np.square(audio, dtype=np.float64).mean()), MIN_POWER))
