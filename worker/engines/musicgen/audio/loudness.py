"""Measures and adjusts the level of audio."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyloudnorm
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import resample_poly

from shared.audio.facts import SILENCE_DBFS
from shared.kinds.musicgen.parameters import Loudness

PEAK_DBTP: Final = -1.0
"""The highest true peak after levelling. It leaves headroom for the peaks that lossy formats and converters add. EBU R
128 and audiocraft use the same value."""
RMS_DBFS: Final = -18.0
LUFS: Final = -14.0
"""``RMS_DBFS`` and ``LUFS`` are the levels that audiocraft uses, so that the outputs of both can be compared."""
OVERSAMPLING: Final = 4
"""How many points per sample are searched for true peaks, as in ITU-R BS.1770-4, annex 2."""
BLOCK: Final = 1 << 18
"""How many samples are searched for true peaks at a time."""
MARGIN: Final = 16
"""How many neighbouring samples are added on each side of a block. The interpolation filter needs 10 on each side."""
LOOK_AHEAD_S: Final = 0.0125
"""Half the length of the limiter's window. Any tone above 40 Hz has a peak in every window, so the gain stays constant
during the tone and adds no distortion."""
MAX_CORRECTIONS: Final = 4
TOLERANCE_DB: Final = 0.1
MIN_SLOPE: Final = 0.2
"""Minimum rise of the level in dB per dB of gain; if the level rises less, more gain would only flatten the peaks."""
GATING_BLOCK_S: Final = 0.4
MIN_RATE_HZ: Final = 8_000
"""Minimum sampling rate for LUFS: at lower rates, the weighting filter of BS.1770, which has a shelf at 1.5 kHz, is not
well defined."""

Meter = Callable[[NDArray[np.float32]], float | None]


@dataclass(frozen=True)
class Levels:
    """The level of audio; both figures are finite or ``None``, so that JSON can represent them.

    Parameters
    ----------
    peak_dbfs
        The level of the largest sample; above 0 if a player would clip the audio. ``None`` for digital silence.
    lufs
        Integrated loudness (ITU-R BS.1770-4). ``None`` if all of the audio is below the gate of -70 LUFS, or if the
        sampling rate is below 8 kHz, for which the loudness is not well defined. Audio that is shorter than a gating
        block is repeated for the measurement.
    """

    peak_dbfs: float | None
    lufs: float | None


def measure(audio: NDArray[np.float32], sample_rate_hz: int) -> Levels:
    """Measure the level of audio of shape (channels, samples).

    References
    ----------
    ITU-R BS.1770-4, annex 1.
    """
    return Levels(peak_dbfs=_to_db(_find_largest(audio)), lufs=_measure_lufs(audio, sample_rate_hz))


def level(audio: NDArray[np.float32], sample_rate_hz: int, how: Loudness) -> NDArray[np.float32]:
    """Adjust the level of audio; silence is not changed.

    Parameters
    ----------
    audio
        Shape (channels, samples), nominally -1 to 1. The array is not changed.
    sample_rate_hz
        The sampling rate of the audio.
    how
        ``none`` returns the audio unchanged, even if samples are beyond -1 to 1. ``peak`` scales the audio to a true
        peak of -1 dBTP. ``rms`` scales the audio to -18 dBFS and ``lufs`` to -14 LUFS; for both, a limiter keeps the
        true peak at -1 dBTP or below. If peaks dominate, as with single clicks, the level stays below -18 dBFS or
        -14 LUFS.

    Returns
    -------
    NDArray[np.float32]
        Shape (channels, samples).

    References
    ----------
    ITU-R BS.1770-4; audiocraft's ``normalize_audio``.
    """
    if how is Loudness.NONE or _find_largest(audio) < _from_db(SILENCE_DBFS):
        return audio
    peaks = trace_peaks(audio)
    match how:
        case Loudness.PEAK:
            return audio * np.float32(_from_db(PEAK_DBTP) / peaks.max())
        case Loudness.RMS:
            return _reach(RMS_DBFS, _measure_rms, audio, peaks, sample_rate_hz)
        case Loudness.LUFS:
            return _reach(LUFS, lambda given: _measure_lufs(given, sample_rate_hz), audio, peaks, sample_rate_hz)


def trace_peaks(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the true peak over time.

    Parameters
    ----------
    audio
        Shape (channels, samples).

    Returns
    -------
    NDArray[np.float32]
        Shape (samples,): for each sample, the largest magnitude of all channels from this sample (included) to the
        next sample (excluded).

    References
    ----------
    ITU-R BS.1770-4, annex 2.
    """
    count = audio.shape[1]
    peaks = np.empty(count, np.float32)
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        begin = max(first - MARGIN, 0)
        dense = resample_poly(audio[:, begin : last + MARGIN], OVERSAMPLING, 1, axis=1)
        dense = np.abs(dense[:, (first - begin) * OVERSAMPLING : (last - begin) * OVERSAMPLING])
        between = dense.reshape(len(audio), -1, OVERSAMPLING).max(axis=(0, 2))
        # The filter returns the samples themselves with a rounding error, so their exact values are used here.
        peaks[first:last] = np.maximum(between, np.abs(audio[:, first:last]).max(axis=0))
    return peaks


def _reach(
    target_db: float, meter: Meter, audio: NDArray[np.float32], peaks: NDArray[np.float32], sample_rate_hz: int
) -> NDArray[np.float32]:
    """Scale and limit audio so that its level is ``target_db``.

    The limiter lowers the level. So the gain must be higher than the difference between the target and the
    measured level; the secant method finds the gain.
    """
    measured = meter(audio)
    gain_db = 0.0 if measured is None else target_db - measured
    slope = 1.0
    limited = _amplify(audio, peaks, gain_db, sample_rate_hz)
    measured = meter(limited)
    for _ in range(MAX_CORRECTIONS):
        if measured is None or abs(target_db - measured) < TOLERANCE_DB or slope < MIN_SLOPE:
            break
        step_db, before = (target_db - measured) / slope, measured
        gain_db += step_db
        limited = _amplify(audio, peaks, gain_db, sample_rate_hz)
        measured = meter(limited)
        slope = (measured - before) / step_db if measured is not None else 0.0
    return limited


def _amplify(
    audio: NDArray[np.float32], peaks: NDArray[np.float32], gain_db: float, sample_rate_hz: int
) -> NDArray[np.float32]:
    gain = _from_db(gain_db)
    return audio * (gain * _plan_gain(peaks * gain, sample_rate_hz)).astype(np.float32)


def _plan_gain(peaks: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float64]:
    """Compute a smooth gain, at most 1, that keeps the true peak at -1 dBTP or below; shape (samples,).

    First, the gain that each sample needs is computed. Then the gain of each sample is replaced
    by the minimum of the gains in a window around the sample. Finally, the minimums are averaged
    twice, over two windows that together are about as long as the window of the minimum. So each
    minimum that counts for a sample's average comes from a window that contains this sample. None
    of these minimums is above the gain that the sample needs, and neither is their average.
    The averages make the gain change slowly. The gain is applied only to samples; the wave between
    two samples nevertheless follows the gain to 0.001 dB.
    """
    ceiling = _from_db(PEAK_DBTP)
    needed = ceiling / np.maximum(peaks, ceiling, dtype=np.float64)
    half = max(round(LOOK_AHEAD_S * sample_rate_hz / 2), 1)
    # On each side, the window of the minimum reaches one sample further than the two averages together: a peak lies
    # between two samples, and both samples must be reduced.
    held = minimum_filter1d(needed, size=4 * half + 3, mode="nearest")
    average = uniform_filter1d(held, size=2 * half + 1, mode="nearest")
    return np.asarray(uniform_filter1d(average, size=2 * half + 1, mode="nearest"))


def _measure_rms(audio: NDArray[np.float32]) -> float | None:
    """Measure the root mean square over all channels, in dBFS; ``None`` for digital silence."""
    return _to_db(math.sqrt(np.square(audio, dtype=np.float64).mean()))


def _measure_lufs(audio: NDArray[np.float32], sample_rate_hz: int) -> float | None:
    if sample_rate_hz < MIN_RATE_HZ or not audio.any():
        return None
    shortfall = GATING_BLOCK_S * sample_rate_hz / audio.shape[1]
    samples = np.tile(audio.T, (math.ceil(shortfall), 1)) if shortfall > 1 else audio.T
    lufs = float(pyloudnorm.Meter(sample_rate_hz).integrated_loudness(samples))
    return lufs if math.isfinite(lufs) else None


def _find_largest(audio: NDArray[np.float32]) -> float:
    return float(np.abs(audio).max(initial=0.0))


def _to_db(ratio: float) -> float | None:
    return 20 * math.log10(ratio) if ratio > 0 else None


def _from_db(decibels: float) -> float:
    return float(10 ** (decibels / 20))
