"""Clips in every format give the same sound, and faults of a clip are reported."""

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shared.errors import JobFailedError
from shared.kinds.musicgen.parameters import AudioPrompt
from worker.engines.musicgen.audio.clips import ClipFormat, read_clip

WHERE = "params.audio_prompts[3]"
MONO = ClipFormat(sample_rate_hz=32_000, channels=1, max_length_s=30.0)
STEREO = ClipFormat(sample_rate_hz=32_000, channels=2, max_length_s=30.0)


def sing(frequency_hz: float, duration_s: float, rate_hz: int) -> NDArray[np.float64]:
    phases = 2 * np.pi * frequency_hz * np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.asarray(0.5 * np.sin(phases))


def ask(start_s: float = 0.0, end_s: float | None = None) -> AudioPrompt:
    return AudioPrompt(upload="x", start_s=start_s, end_s=end_s)


def write(path: Path, samples: Any, rate_hz: int, kind: str = "WAV", subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate_hz, format=kind, subtype=subtype)
    return path


def fail(path: Path, prompt: AudioPrompt, form: ClipFormat = MONO) -> JobFailedError:
    with pytest.raises(JobFailedError) as caught:
        read_clip(path, prompt, form, WHERE)
    assert WHERE in caught.value.detail
    assert str(path.parent) not in caught.value.detail
    return caught.value


@pytest.mark.parametrize("rate_hz", [22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("channels", "kind", "subtype", "tolerance"),
    [
        (1, "WAV", "PCM_16", 1e-4),
        (2, "WAV", "PCM_16", 1e-4),
        (6, "WAV", "PCM_24", 1e-5),
        (2, "WAV", "FLOAT", 1e-5),
        (1, "WAV", "DOUBLE", 1e-5),
        (2, "AIFF", "PCM_16", 1e-4),
        (2, "FLAC", "PCM_16", 1e-4),
        (6, "FLAC", "PCM_24", 1e-5),
        (1, "OGG", "VORBIS", 0.05),
        (2, "OGG", "VORBIS", 0.05),
        (6, "OGG", "VORBIS", 0.1),
        (1, "MP3", "MPEG_LAYER_III", 0.05),
        (2, "MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_every_format_rate_and_layout_gives_the_same_tone(  # noqa: PLR0913 - the file's properties
    tmp_path: Path, rate_hz: int, channels: int, *, kind: str, subtype: str, tolerance: float
) -> None:
    tone = sing(440, 1.5, rate_hz)
    path = write(tmp_path / "clip", np.stack([tone] * channels, axis=1), rate_hz, kind, subtype)
    for form in (MONO, STEREO):
        clip = read_clip(path, ask(0.2, 1.2), form, WHERE)
        assert clip.dtype == np.float32
        assert clip.shape == (form.channels, 32_000)
        expected = sing(440, 1.2, 32_000)[6_400:]
        # The ends are not compared: the abrupt start and end of the part make the resampler ring.
        assert np.abs(clip - expected)[:, 500:-500].max() < tolerance


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_345, 44_056, 44_100, 96_000, 192_000])
def test_resampling_gives_the_exact_length(tmp_path: Path, rate_hz: int) -> None:
    for count in range(rate_hz // 5, rate_hz // 5 + 40):
        path = write(tmp_path / "clip.wav", np.zeros(count), rate_hz)
        assert read_clip(path, ask(), MONO, WHERE).shape == (1, round(count * 32_000 / rate_hz))


def test_the_last_sample_is_not_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.wav", np.full(44_100, 0.5), 44_100)
    clip = read_clip(path, ask(), MONO, WHERE)
    assert 0.2 < clip[0, -1] < 0.8


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_a_part_equals_the_same_part_of_the_whole_file(tmp_path: Path, kind: str, subtype: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (32_000 * 8, 2))
    path = write(tmp_path / "clip", noise, 32_000, kind, subtype)
    whole = read_clip(path, ask(), STEREO, WHERE)
    part = read_clip(path, ask(3.21, 7.5), STEREO, WHERE)
    assert part.shape == (2, 240_000 - 102_720)
    np.testing.assert_allclose(part, whole[:, 102_720:240_000], atol=1e-6)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate_hz", [22_050, 32_000, 44_100])
def test_a_part_of_an_mp3_file_is_not_damaged_by_seeking(tmp_path: Path, rate_hz: int, mode: str) -> None:
    path = tmp_path / "clip.mp3"
    # At the lowest bit rate, the frames of an MP3 file use data of much earlier frames.
    with soundfile.SoundFile(path, "w", rate_hz, 1, format="MP3", compression_level=0.99, bitrate_mode=mode) as file:
        file.write(sing(440, 12, rate_hz))
    whole = soundfile.read(path, dtype="float32")[0]
    form = ClipFormat(rate_hz, 1, max_length_s=30.0)
    for start_s in range(1, 12):
        part = read_clip(path, ask(start_s), form, WHERE)
        np.testing.assert_allclose(part[0], whole[start_s * rate_hz :], atol=1e-6)


def test_channels_are_mixed(tmp_path: Path) -> None:
    voices = np.stack([sing(100 * (number + 1), 1, 32_000) for number in range(6)], axis=1)
    path = write(tmp_path / "stereo.wav", voices[:, :2], 32_000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(path, ask(), STEREO, WHERE), voices[:, :2].T, atol=1e-6)
    np.testing.assert_allclose(read_clip(path, ask(), MONO, WHERE)[0], voices[:, :2].mean(axis=1), atol=1e-6)
    path = write(tmp_path / "surround.wav", voices, 32_000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(path, ask(), MONO, WHERE)[0], voices.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(read_clip(path, ask(), STEREO, WHERE), [voices.mean(axis=1)] * 2, atol=1e-6)
    path = write(tmp_path / "mono.wav", voices[:, 0], 32_000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(path, ask(), STEREO, WHERE), [voices[:, 0]] * 2, atol=1e-6)


def test_many_channels_are_mixed_block_by_block(tmp_path: Path) -> None:
    ramp = np.arange(200_000) / 200_000
    path = write(tmp_path / "ramp.wav", np.stack([ramp] * 6, axis=1), 32_000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(path, ask(), MONO, WHERE)[0], ramp, atol=1e-6)
    np.testing.assert_allclose(read_clip(path, ask(3, 6), MONO, WHERE)[0], ramp[96_000:192_000], atol=1e-6)


def test_many_channels_take_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.flac", np.zeros((600_000, 8), np.int16), 32_000)
    tracemalloc.start()
    try:
        read_clip(path, ask(), MONO, WHERE)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12 << 20  # if all channels were decoded at once, they would take 19 MB


def test_five_seconds_of_an_hour_take_little_memory(tmp_path: Path) -> None:
    path, rate_hz, bytes_each = tmp_path / "hour.wav", 44_100, 4
    size = 3_600 * rate_hz * bytes_each
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 2, rate_hz, rate_hz * bytes_each, bytes_each, 16),
        *(b"data", size),
    )
    tone = np.repeat(sing(440, 5, rate_hz) * 32_768, 2).astype("<i2")
    with path.open("wb") as file:  # the rest of the file is a hole, which takes no space on the disk
        file.write(header)
        file.seek(len(header) + 3_000 * rate_hz * bytes_each)
        file.write(tone.tobytes())
        file.truncate(len(header) + size)
    tracemalloc.start()
    try:
        clip = read_clip(path, ask(3_000, 3_005), STEREO, WHERE)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 << 20  # the whole file would take 1.2 GB
    assert np.abs(clip - sing(440, 5, 32_000))[:, 500:-500].max() < 1e-4


def test_a_clip_of_zeros_is_accepted(tmp_path: Path) -> None:
    assert not read_clip(write(tmp_path / "zeros.wav", np.zeros(8_000), 8_000), ask(), MONO, WHERE).any()


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "not recognised"), (b"not a sound" * 50, "not recognised"), (b"fLaC" * 50, "decoded")]
)
def test_a_file_that_is_not_audio_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "clip"
    path.write_bytes(content)
    error = fail(path, ask())
    assert error.type == "clip-unreadable"
    assert reason in error.detail
    assert "WAV, FLAC, OGG or MP3" in error.detail


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    tone = sing(440, 4, 44_100)
    path = write(tmp_path / "clip", tone, 44_100, "FLAC")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert fail(path, ask()).type == "clip-unreadable"


def test_a_file_shorter_than_its_header_states_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "clip", sing(440, 4, 44_100), 44_100)
    # If an MP3 file does not state its length, libsndfile estimates it; the property below is such an estimate.
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda _: 44_100 * 5))
    assert read_clip(path, ask(1), MONO, WHERE).shape == (1, 96_000)
    error = fail(path, ask(1, 4.5))
    assert error.type == "clip-range"
    assert "ends after 4.00 s" in error.detail


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    assert fail(write(tmp_path / "clip.wav", np.zeros(0), 44_100), ask()).type == "clip-empty"


@pytest.mark.parametrize(
    ("prompt", "type_", "words"),
    [
        (ask(2.0), "clip-range", "is 2.00 s long, and start_s is 2. Set start_s"),
        (ask(1e300), "clip-range", "Set start_s"),
        (ask(0.5, 2.02), "clip-range", "is 2.00 s long, and end_s is 2.02."),
        (ask(1.95), "clip-range", "only 0.050 s to continue. Choose at least 0.1 s"),
        (ask(1.0, 1.05), "clip-range", "at least 0.1 s"),
        (ask(0.25), "clip-too-long", "at most 1.50 s. Set end_s to 1.75 or less"),
        (ask(0.25, 1.8), "clip-too-long", "has 1.55 s to continue"),
    ],
)
def test_a_part_that_is_outside_the_file_or_too_short_or_too_long_is_refused(
    tmp_path: Path, prompt: AudioPrompt, type_: str, words: str
) -> None:
    path = write(tmp_path / "clip.wav", sing(440, 2, 44_100), 44_100)
    error = fail(path, prompt, ClipFormat(32_000, 1, max_length_s=1.5))
    assert error.type == type_
    assert words in error.detail


def test_an_end_that_is_the_length_of_the_file_rounded_up_is_accepted(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.wav", sing(440, 1.994, 32_000), 32_000)
    assert read_clip(path, ask(0, 2.0), MONO, WHERE).shape == (1, 63_808)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [MONO, STEREO], ids=["mono", "stereo"])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, wrong: float, form: ClipFormat) -> None:
    samples = np.zeros((44_100, 2))
    samples[20_000] = wrong, -wrong
    path = write(tmp_path / "clip.wav", samples, 44_100, subtype="FLOAT")
    error = fail(path, ask(), form)
    assert error.type == "clip-unreadable"
    assert "NaN or infinite" in error.detail
    assert read_clip(path, ask(0.5), form, WHERE).any() == np.False_


@pytest.mark.parametrize("rate_hz", [10, 2_000_000_000])
def test_an_implausible_sampling_rate_is_refused(tmp_path: Path, rate_hz: int) -> None:
    error = fail(write(tmp_path / "clip.wav", np.zeros(4_000), rate_hz), ask())
    assert error.type == "clip-unreadable"
    assert f"{rate_hz} Hz" in error.detail
