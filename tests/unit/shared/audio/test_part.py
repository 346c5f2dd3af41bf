"""A part of a file has exactly the samples that were asked for, in the form that a model reads."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.audio.part import DecodedPart, WantedPart, decode_part
from tests.support.audio_files import make_wav_header, sing, write_wav
from tests.support.audio_zoo import run_ffmpeg

pytestmark = pytest.mark.xdist_group("audio zoo")

MAX_S: Final = 3_600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def read(  # noqa: PLR0913 - what is asked
    path: Path,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    rate_hz: int = 32_000,
    channels: int = 1,
    max_length_s: float = 30.0,
) -> DecodedPart:
    return decode_part(path, WantedPart(start_s, end_s, max_length_s, rate_hz, channels), MAX_S)


def write(path: Path, samples: NDArray[np.float64], rate_hz: int) -> Path:
    return write_wav(path, samples.reshape(len(samples), -1), rate_hz, as_floats=True)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_345, 44_056, 44_100, 96_000, 192_000])
def test_resampling_gives_the_exact_length(path: Path, rate_hz: int) -> None:
    for count in range(rate_hz // 5, rate_hz // 5 + 40):
        part = read(write(path, np.zeros(count), rate_hz))
        assert part.samples.shape == (round(count * 32_000 / rate_hz), 1)


def test_the_last_sample_is_not_lost(path: Path) -> None:
    part = read(write(path, np.full(44_100, 0.5), 44_100))
    assert 0.2 < part.samples[-1, 0] < 0.8


@pytest.mark.parametrize("rate_hz", [22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_tone_of_any_rate_is_the_same_tone(path: Path, rate_hz: int, channels: int) -> None:
    part = read(write(path, sing(440, 1.5, rate_hz), rate_hz), 0.2, 1.2, channels=channels)
    assert part.samples.dtype == np.float32
    assert part.samples.shape == (32_000, channels)
    expected = sing(440, 1.2, 32_000)[6_400:, None]
    # The ends are not compared: the abrupt start and end of the part make the resampler ring.
    assert np.abs(part.samples - expected)[500:-500].max() < 1e-5


@pytest.mark.parametrize("name", ["s16.wav", "plain.flac", "vorbis.ogg", "opus.webm", "aac.m4a", "low.mp3", "v2.wma"])
def test_part_equals_the_same_part_of_the_whole_file(zoo: Mapping[str, Path], name: str) -> None:
    rate_hz = 48_000 if name == "opus.webm" else 22_050 if name == "low.mp3" else 44_100
    whole = read(zoo[name], rate_hz=rate_hz, channels=2)
    for start_s in (0.1, 0.731, 1.9):
        part = read(zoo[name], start_s, 2.5, rate_hz=rate_hz, channels=2)
        first, last = round(start_s * rate_hz), round(2.5 * rate_hz)
        np.testing.assert_array_equal(part.samples, whole.samples[first:last])
    assert not part.ended


def test_surround_sound_is_as_loud_as_its_front_channels(zoo: Mapping[str, Path]) -> None:
    levels = {
        name: np.abs(read(zoo[name], 1.6, 2.1, channels=2).samples).max(axis=0)
        for name in ("surround.wav", "surround.flac", "surround.m4a", "surround.ac3", "s16.wav")
    }
    for level in levels.values():
        np.testing.assert_allclose(level, [0.25, 0.125], rtol=0.05)


def test_loud_surround_sound_is_not_cut_off_and_keeps_its_shape(path: Path, tmp_path: Path) -> None:
    source = write_wav(tmp_path / "source.wav", np.stack([sing(440, 1.0, 32_000, 0.9)] * 6, axis=1), 32_000)
    run_ffmpeg("-channel_layout", "5.1", "-i", str(source), "-f", "flac", str(path))
    samples = read(path, channels=2).samples
    np.testing.assert_allclose(samples, np.repeat(sing(440, 1.0, 32_000, 1.0)[:, None], 2, axis=1), atol=1e-3)


def test_unknown_channels_are_averaged(path: Path) -> None:
    voices = np.stack([sing(100 * (number + 1), 1.0, 32_000) for number in range(9)], axis=1)
    samples = read(write(path, voices, 32_000), channels=2).samples
    np.testing.assert_allclose(samples, np.repeat(voices.mean(axis=1)[:, None], 2, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("start_s", "end_s", "part_s", "read_s", "ended"),
    [
        (0.5, None, 1.5, 2.0, True),
        (2.0, None, 0.0, 2.0, True),
        (1e300, None, 0.0, 2.0, True),
        (1.0, 2.5, 1.0, 2.0, True),
        (1.0, 2.0, 1.0, 2.0, True),
    ],
)
def test_part_beyond_the_end_says_where_the_end_is(  # noqa: PLR0913, PLR0917 - what is asked and what is told
    path: Path, start_s: float, end_s: float | None, part_s: float, read_s: float, ended: bool
) -> None:
    part = read(write(path, sing(440, 2.0, 8_000), 8_000), start_s, end_s)
    assert (part.part_s, part.read_s, part.ended) == (part_s, read_s, ended)


def test_part_that_is_too_long_is_measured_and_not_returned(path: Path) -> None:
    write(path, sing(440, 9.0, 8_000), 8_000)
    for end_s in (None, 8.5):
        part = read(path, 1.0, end_s, max_length_s=1.5)
        assert part.part_s == (8.0 if end_s is None else 7.5)
        assert part.samples.shape == (0, 1)


def test_five_seconds_of_an_hour_take_little_memory(path: Path) -> None:
    rate_hz = 22_050
    size = 3_600 * rate_hz * 4
    tone = np.repeat(sing(440, 5, rate_hz) * 32_768, 2).astype("<i2")
    header = make_wav_header(size, rate_hz, 2, 2)
    with path.open("wb") as file:  # the rest of the file is a hole, which takes no space on the disk
        file.write(header)
        file.seek(len(header) + 3_000 * rate_hz * 4)
        file.write(tone.tobytes())
        file.truncate(len(header) + size)
    tracemalloc.start()
    try:
        part = read(path, 3_000, 3_005, channels=2)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 24 << 20  # the whole file would take 630 MB as floats
    assert np.abs(part.samples - sing(440, 5, 32_000)[:, None])[500:-500].max() < 1e-4
