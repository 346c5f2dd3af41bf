"""Encoded files contain the whole audio at its sampling rate; all formats except WAV clip it at full scale."""

import io

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.io import wavfile

from shared.errors import JobFailedError
from shared.kinds.musicgen.audio_encoding import FULL_SCALE_16_BIT, encode, round_to_16_bits
from shared.kinds.musicgen.parameters import Format

MEDIA_TYPES = {
    Format.WAV: "audio/wav",
    Format.WAV16: "audio/wav",
    Format.FLAC: "audio/flac",
    Format.OGG: "audio/ogg",
    Format.MP3: "audio/mpeg",
}
TOLERANCES = {Format.WAV: 0.0, Format.WAV16: 1.5 / 2**15, Format.FLAC: 2.0**-23, Format.OGG: 0.05, Format.MP3: 0.05}


def sing(amplitude: float, channels: int = 2, duration_s: float = 1.5, rate_hz: int = 32_000) -> NDArray[np.float32]:
    moments_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    voices = [amplitude * np.sin(2 * np.pi * 440 * (channel + 1) * moments_s) for channel in range(channels)]
    return np.asarray(np.stack(voices), dtype=np.float32)


def decode(content: bytes) -> tuple[NDArray[np.float32], int]:
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return samples.T, rate_hz


@pytest.mark.parametrize("audio_format", Format)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 32_000, 44_100, 48_000])
def test_decoded_audio_matches_the_encoded_audio(audio_format: Format, channels: int, rate_hz: int) -> None:
    audio = sing(0.5, channels, rate_hz=rate_hz)
    content, media_type = encode(audio, rate_hz, audio_format)
    assert media_type == MEDIA_TYPES[audio_format]
    decoded, decoded_hz = decode(content)
    assert decoded_hz == rate_hz
    assert decoded.shape == audio.shape
    assert np.abs(decoded - audio).max() <= TOLERANCES[audio_format]


def test_wav_is_float_and_not_clipped() -> None:
    audio = sing(3.0)
    rate_hz, samples = wavfile.read(io.BytesIO(encode(audio, 32_000, Format.WAV)[0]))
    assert rate_hz == 32_000
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples.T, audio)


@pytest.mark.parametrize("audio_format", [Format.WAV16, Format.FLAC, Format.OGG, Format.MP3])
def test_other_formats_clip_loud_samples_without_overflow(audio_format: Format) -> None:
    audio = sing(3.0)
    before = audio.copy()
    decoded, _ = decode(encode(audio, 32_000, audio_format)[0])
    np.testing.assert_array_equal(audio, before)
    loud = np.abs(audio) > 1.5
    np.testing.assert_array_equal(np.sign(decoded[loud]), np.sign(audio[loud]))
    assert np.abs(decoded[loud]).min() > 0.7
    assert np.abs(decoded).max() < 1.5  # lossy formats overshoot full scale at clipped peaks, but stay far below 3
    if audio_format is Format.FLAC:
        assert np.abs(decoded - np.clip(audio, -1, 1)).max() <= 2.0**-22


def test_flac_has_24_bits() -> None:
    content, _ = encode(sing(0.5), 32_000, Format.FLAC)
    assert soundfile.info(io.BytesIO(content)).subtype == "PCM_24"


@pytest.mark.slow
def test_long_audio_does_not_overflow_the_stack_of_libvorbis() -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 32_000 * 100)).astype(np.float32)
    decoded, _ = decode(encode(noise, 32_000, Format.OGG)[0])
    assert decoded.shape == noise.shape


@pytest.mark.parametrize(
    ("audio_format", "rate_hz"),
    [
        (Format.MP3, 7_999),
        (Format.MP3, 32_001),
        (Format.MP3, 96_000),
        (Format.OGG, 200_001),
        (Format.FLAC, 65_537),
        (Format.FLAC, 655_360),
    ],
)
def test_rate_that_the_format_does_not_support_is_refused(audio_format: Format, rate_hz: int) -> None:
    with pytest.raises(JobFailedError) as caught:
        encode(sing(0.5), rate_hz, audio_format)
    assert caught.value.type == "format-unfit"
    assert f"{rate_hz} Hz" in caught.value.detail
    assert "Choose the format wav (params.format), or a sampling rate (params.sample_rate)" in caught.value.detail


@pytest.mark.parametrize(
    ("audio_format", "rate_hz"),
    [
        (Format.MP3, 8_000),
        (Format.OGG, 1_000),
        (Format.OGG, 200_000),
        (Format.FLAC, 65_535),
        (Format.FLAC, 96_000),
        (Format.FLAC, 655_350),
        (Format.WAV, 1_000_000),
    ],
)
def test_unusual_rate_that_the_format_supports_is_encoded(audio_format: Format, rate_hz: int) -> None:
    assert decode(encode(sing(0.5), rate_hz, audio_format)[0])[1] == rate_hz


def test_16_bit_files_have_dither_of_one_step_that_depends_on_the_seed_alone() -> None:
    quiet = np.full((1, 100_000), 0.25 / FULL_SCALE_16_BIT, np.float32)  # a quarter of a step
    steps = round_to_16_bits(quiet, 7)
    np.testing.assert_array_equal(round_to_16_bits(quiet, 7), steps)
    assert (round_to_16_bits(quiet, 8) != steps).any()
    assert set(np.unique(steps)) == {-1, 0, 1}
    # Rounding without dither would make silence of it; with dither, its mean remains.
    assert steps.mean() == pytest.approx(0.25, abs=0.01)


def test_the_dither_of_16_bit_files_leaves_no_trace_of_the_audio_in_the_error() -> None:
    tone = sing(1.5 / FULL_SCALE_16_BIT, 1, duration_s=4)
    error = round_to_16_bits(tone, 1)[0] / FULL_SCALE_16_BIT - tone[0]
    spectrum = np.abs(np.fft.rfft(error * np.hanning(error.size)))
    # Without dither, the harmonics of the tone stand out of the error by a factor of more than 30.
    assert spectrum.max() < 8 * np.median(spectrum)
    assert error.std() * FULL_SCALE_16_BIT == pytest.approx(0.5, rel=0.05)  # TPDF: half a step


def test_16_bit_files_clip_loud_samples() -> None:
    steps = round_to_16_bits(sing(3.0), 0)
    assert (steps.min(), steps.max()) == (-FULL_SCALE_16_BIT, FULL_SCALE_16_BIT - 1)
