"""Audio gets the requested level, its peaks stay below the ceiling, and nothing else changes."""

import json
from dataclasses import asdict

import numpy as np
import pyloudnorm
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, resample, sosfilt

from shared.kinds.musicgen.parameters import Loudness
from worker.engines.musicgen.audio import loudness
from worker.engines.musicgen.audio.loudness import level, measure, trace_peaks

RATE_HZ = 32_000
Audio = NDArray[np.float32]


def sing(frequency_hz: float, amplitude: float, duration_s: float = 3.0, channels: int = 1) -> Audio:
    moments_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    tone = amplitude * np.sin(2 * np.pi * frequency_hz * moments_s)
    return np.asarray(np.stack([tone] * channels), dtype=np.float32)


def swell(amplitude: float) -> Audio:
    """Make a swelling wave whose peaks lie between the samples.

    The frequency is a quarter of the sampling rate and the phase is 45 degrees, so each sample is at 0.707 of the peak.
    """
    count = 3 * RATE_HZ
    wave = np.sin(np.pi / 2 * np.arange(count) + np.pi / 4) * np.hanning(count)
    return np.asarray([amplitude * wave], dtype=np.float32)


def drum(gain: float, channels: int = 2) -> Audio:
    """Make band noise with two strokes per second: as in music, the peaks are far above the level."""
    rng = np.random.default_rng(5)
    moments_s = np.arange(3 * RATE_HZ) / RATE_HZ
    strokes = 0.1 + np.exp(-8 * (moments_s * 2 % 1))
    band = butter(2, [60, 6_000], "band", fs=RATE_HZ, output="sos")
    noise = sosfilt(band, rng.standard_normal((channels, len(moments_s))), axis=1) * strokes
    return np.asarray(gain * noise / np.abs(noise).max(), dtype=np.float32)


def hiss(gain: float) -> Audio:
    return (gain * np.random.default_rng(6).standard_normal((2, 3 * RATE_HZ))).astype(np.float32)


def find_true_peak(audio: Audio) -> float:
    """Return the true peak in dBTP, of the audio resampled by its spectrum to 16 times its sampling rate.

    The tested code uses a filter instead.
    """
    padded = np.pad(audio.astype(np.float64), ((0, 0), (2_000, 2_000)))
    return float(20 * np.log10(np.abs(resample(padded, 16 * padded.shape[1], axis=1)).max()))


def find_rms(audio: Audio) -> float:
    return float(10 * np.log10(np.square(audio.astype(np.float64)).mean()))


def find_lufs(audio: Audio) -> float:
    return float(pyloudnorm.Meter(RATE_HZ).integrated_loudness(audio.T.astype(np.float64)))


SIGNALS = {
    "tone": sing(997, 0.3),
    "swell between samples": swell(0.9),
    "loud swell between samples": swell(4.0),
    "low tone": sing(50, 2.0),
    "drum": drum(0.9),
    "clipping drum": drum(4.0),
    "quiet drum": drum(0.01, channels=1),
    "hiss": hiss(0.5),
}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("how", [Loudness.PEAK, Loudness.RMS, Loudness.LUFS])
def test_the_level_is_reached_and_the_peaks_stay_below_the_ceiling(signal: str, how: Loudness) -> None:
    audio = SIGNALS[signal]
    before = audio.copy()
    levelled = level(audio, RATE_HZ, how)
    assert levelled.dtype == np.float32
    assert levelled.shape == audio.shape
    np.testing.assert_array_equal(audio, before)
    # Near half the sampling rate, where only hiss has much energy, true peak meters may differ by half a decibel.
    tolerance = 0.5 if signal == "hiss" else 0.1
    assert find_true_peak(levelled) <= -1 + tolerance
    assert 20 * np.log10(trace_peaks(levelled).max()) <= -1 + 1e-3
    match how:
        case Loudness.PEAK:
            assert find_true_peak(levelled) == pytest.approx(-1, abs=tolerance)
        case Loudness.RMS:
            assert find_rms(levelled) == pytest.approx(-18, abs=0.2)
        case _:
            assert find_lufs(levelled) == pytest.approx(-14, abs=0.2)


def test_peaks_are_limited_even_if_the_level_is_already_right() -> None:
    audio = drum(0.9)
    audio *= 10 ** ((-14 - find_lufs(audio)) / 20)
    assert find_true_peak(audio) > 2
    levelled = level(audio, RATE_HZ, Loudness.LUFS)
    assert find_true_peak(levelled) <= -0.9
    assert find_lufs(levelled) == pytest.approx(-14, abs=0.2)


def test_the_setting_none_leaves_the_audio_unchanged() -> None:
    audio = drum(4.0)
    before = audio.copy()
    np.testing.assert_array_equal(level(audio, RATE_HZ, Loudness.NONE), before)


@pytest.mark.parametrize("how", Loudness)
@pytest.mark.parametrize(
    "audio",
    [np.zeros((2, RATE_HZ), np.float32), drum(0.0009), np.zeros((1, 0), np.float32)],
    ids=["zeros", "rustle", "nothing"],
)
def test_silence_is_not_changed(audio: Audio, how: Loudness) -> None:
    np.testing.assert_array_equal(level(audio, RATE_HZ, how), audio)


@pytest.mark.parametrize("how", [Loudness.PEAK, Loudness.RMS, Loudness.LUFS])
def test_clicks_stay_below_the_ceiling(how: Loudness) -> None:
    audio = np.zeros((2, 3 * RATE_HZ), np.float32)
    audio[0, ::7_001] = 1.5
    audio[1, [0, -1]] = -2.0
    levelled = level(audio, RATE_HZ, how)
    assert find_true_peak(levelled) <= -0.9
    assert np.abs(levelled).max() > 0.5


@pytest.mark.parametrize("duration_s", [0.01, 0.1, 0.39, 0.4, 0.41])
@pytest.mark.parametrize("how", [Loudness.PEAK, Loudness.RMS, Loudness.LUFS])
def test_short_audio_gets_the_same_level_as_long_audio(duration_s: float, how: Loudness) -> None:
    short = level(sing(1_000, 0.05, duration_s), RATE_HZ, how)
    long = level(sing(1_000, 0.05, 3.0), RATE_HZ, how)
    assert find_rms(short) == pytest.approx(find_rms(long), abs=0.5)


def test_a_steady_tone_is_limited_without_distortion() -> None:
    tone = sing(50, 0.3) + sing(1_000, 0.1)
    clicked = tone.copy()
    clicked[0, 5_000] += 1.5  # the limiter works only around this click
    levelled = level(clicked, RATE_HZ, Loudness.RMS)[0, 10_000:-2_000]
    gain = np.dot(levelled, tone[0, 10_000:-2_000]) / np.dot(tone[0, 10_000:-2_000], tone[0, 10_000:-2_000])
    assert np.abs(levelled - gain * tone[0, 10_000:-2_000]).max() < 1e-6

    # LUFS weights bass less than other frequencies, so a tone of 50 Hz is amplified far above the ceiling.
    loud = level(sing(50, 1.0), RATE_HZ, Loudness.LUFS)[0, 4_000:-4_000]
    spectrum = np.abs(np.fft.rfft(loud[: RATE_HZ * 2] * np.hanning(RATE_HZ * 2)))
    harmonics = spectrum[[300, 500, 700]].max() / spectrum[100]
    assert harmonics < 1e-3


def test_the_gain_changes_smoothly() -> None:
    audio = sing(3_000, 0.2)
    audio[0, 40_000:40_050] *= 10
    levelled = level(audio, RATE_HZ, Loudness.RMS)
    crests = np.flatnonzero(np.abs(audio[0]) > 0.15)
    gains = levelled[0, crests] / audio[0, crests]
    assert gains.min() < 0.7 * gains.max()
    assert np.abs(np.diff(gains)).max() < 0.02 * gains.max()


def test_both_channels_get_the_same_gain() -> None:
    left = drum(3.0, channels=1)[0]
    levelled = level(np.stack([left, 0.1 * left]), RATE_HZ, Loudness.LUFS)
    np.testing.assert_allclose(levelled[1], 0.1 * levelled[0], atol=1e-6)


def test_traced_peaks_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = hiss(0.3)[:, :20_011]
    whole = trace_peaks(audio)
    monkeypatch.setattr(loudness, "BLOCK", 997)
    np.testing.assert_allclose(trace_peaks(audio), whole, atol=1e-6)
    assert (whole >= np.abs(audio).max(axis=0)).all()


def test_a_peak_between_samples_is_found() -> None:
    assert np.abs(swell(1.0)).max() == pytest.approx(np.sqrt(0.5), abs=1e-3)
    assert trace_peaks(swell(1.0)).max() == pytest.approx(1, abs=5e-3)


def test_a_tone_of_full_scale_has_the_levels_of_the_standard() -> None:
    # BS.1770: a 997 Hz sine of full scale in one channel has -3.01 LUFS.
    levels = measure(sing(997, 1.0), RATE_HZ)
    assert levels.peak_dbfs == pytest.approx(0, abs=0.01)
    assert levels.lufs == pytest.approx(-3.01, abs=0.1)
    assert measure(sing(997, 2.0, channels=2), RATE_HZ).lufs == pytest.approx(6.02, abs=0.1)
    assert measure(sing(997, 2.0), RATE_HZ).peak_dbfs == pytest.approx(6.02, abs=0.01)


@pytest.mark.parametrize(
    ("audio", "rate_hz", "peak_dbfs"),
    [
        (np.zeros((2, RATE_HZ), np.float32), RATE_HZ, None),
        (np.zeros((1, 0), np.float32), RATE_HZ, None),
        (np.full((1, RATE_HZ), 1e-5, np.float32), RATE_HZ, -100),
        (sing(100, 1.0, 1.0), 4_000, 0),
    ],
    ids=["zeros", "nothing", "below the gate", "rate too low"],
)
def test_a_level_that_cannot_be_measured_is_none(audio: Audio, rate_hz: int, peak_dbfs: float | None) -> None:
    levels = measure(audio, rate_hz)
    assert levels.lufs is None
    assert levels.peak_dbfs == (peak_dbfs if peak_dbfs is None else pytest.approx(peak_dbfs, abs=0.01))
    json.dumps(asdict(levels), allow_nan=False)
