"""What a listener should be told about generated audio: its faults, each in a sentence."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.audio.loudness import SILENCE_DBFS

CLIPPED_FEW: Final = 10
"""Samples beyond full scale that nobody hears."""
BLOCK_S: Final = 0.1
SILENT_SHARE: Final = 0.5
START_S: Final = 2.0
QUIETER_DB: Final = 12.0
MIN_POWER: Final = 1e-30
"""Keeps the logarithm of silence finite: -300 dB."""


def find_warnings(
    audio: NDArray[np.float32], clip: NDArray[np.float32] | None, sample_rate_hz: int, prompt_samples: int = 0
) -> list[str]:
    """List what is wrong with the model's raw output.

    Parameters
    ----------
    audio
        Shape (channels, samples), before it is levelled: what clips shows only there.
    clip
        The audio prompt that it continues, shape (channels, samples), if there is one.
    sample_rate_hz
        Of both.
    prompt_samples
        How many samples of ``audio`` repeat the prompt; the new music follows.
    """
    music = audio[:, prompt_samples:]
    warnings = [_find_clipping(audio), _find_silence(music, sample_rate_hz)]
    if clip is not None:
        warnings.append(_find_drop(music, clip, sample_rate_hz))
    return [warning for warning in warnings if warning is not None]


def _find_clipping(audio: NDArray[np.float32]) -> str | None:
    magnitudes = np.abs(audio)
    clipped = int(np.count_nonzero(magnitudes > 1))
    if clipped <= CLIPPED_FEW:
        return None
    return (
        f"Clipping: {clipped / audio.size:.2%} of the model's samples lie beyond full scale, "
        f"by up to {20 * math.log10(magnitudes.max()):.1f} dB; "
        'a loudness of "peak", "rms" or "lufs" keeps them from being cut off.'
    )


def _find_silence(music: NDArray[np.float32], sample_rate_hz: int) -> str | None:
    if not music.size:
        return None
    starts = np.arange(0, music.shape[1], max(round(BLOCK_S * sample_rate_hz), 1))
    energies = np.add.reduceat(np.square(music, dtype=np.float64).mean(axis=0), starts)
    levels_dbfs = 10 * np.log10(np.maximum(energies / np.diff(starts, append=music.shape[1]), MIN_POWER))
    share = float(np.mean(levels_dbfs < SILENCE_DBFS))
    if share <= SILENT_SHARE:
        return None
    part = "the music" if share == 1 else f"{share:.0%} of the music"
    return f"Silence: {part} is below {SILENCE_DBFS:g} dBFS; another seed or prompt may help."


def _find_drop(music: NDArray[np.float32], clip: NDArray[np.float32], sample_rate_hz: int) -> str | None:
    """Find new music that does not take up the prompt's level: a sign that the model has lost it."""
    start = music[:, : round(START_S * sample_rate_hz)]
    if not start.size:
        return None
    drop_db = _measure_level(clip) - _measure_level(start)
    if drop_db <= QUIETER_DB:
        return None
    amount = f"{drop_db:.0f} dB quieter than" if start.any() else "silent after"
    return (
        f"Start much quieter than the prompt: the first {start.shape[1] / sample_rate_hz:.1f} s of new music are "
        f"{amount} the clip; another seed, or a part of the clip that ends in full sound, may help."
    )


def _measure_level(audio: NDArray[np.float32]) -> float:
    """Measure the root mean square, in dBFS."""
    return 10 * math.log10(max(float(np.square(audio, dtype=np.float64).mean()), MIN_POWER))
