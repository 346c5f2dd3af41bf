"""The pictures of a sample are well-formed and small, and show the sound of the sample."""

import gc
import io
import re
import tracemalloc
from collections.abc import Callable
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from worker.engines.musicgen.audio import pictures
from worker.engines.musicgen.audio.pictures import draw_spectrogram, draw_waveform

RATE_HZ = 32_000
SVG = "{http://www.w3.org/2000/svg}"
Audio = NDArray[np.float32]
Draw = Callable[[Audio, int], bytes]


def hiss(duration_s: float, channels: int = 2, gain: float = 1.0) -> Audio:
    noise = np.random.default_rng(2).uniform(-gain, gain, (channels, round(duration_s * RATE_HZ)))
    return np.asarray(noise, dtype=np.float32)


def sing(frequency_hz: float, duration_s: float = 2.0) -> Audio:
    moments_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return np.asarray([np.sin(2 * np.pi * frequency_hz * moments_s)], dtype=np.float32)


def read_texts(picture: bytes) -> list[str]:
    root = ET.fromstring(picture)  # noqa: S314 - our own picture
    assert root.tag == f"{SVG}svg"
    assert not list(root.iter(f"{SVG}image"))
    assert not list(root.iter(f"{SVG}script"))
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def read_outlines(picture: bytes) -> list[NDArray[np.float64]]:
    """Return the points of the long paths in a picture: one path for each channel."""
    root = ET.fromstring(picture)  # noqa: S314 - our own picture
    paths = [path.attrib["d"] for path in root.iter(f"{SVG}path")]
    points = [np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=np.float64) for path in paths]
    return [outline for outline in points if len(outline) > 100]


@pytest.mark.parametrize("duration_s", [0.02, 0.5, 30.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_waveform_of_any_duration_is_small_and_has_labels(duration_s: float, channels: int) -> None:
    picture = draw_waveform(hiss(duration_s, channels, gain=1.3), RATE_HZ)
    assert len(picture) < 60_000
    texts = read_texts(picture)
    assert {"Time, s", "0"} <= set(texts)
    assert ({"Left", "Right"} <= set(texts)) == (channels == 2)
    assert ("Amplitude" in texts) == (channels == 1)
    assert ("30" in texts) == (duration_s == 30)
    assert len(read_outlines(picture)) == channels


def test_a_waveform_shows_each_peak_at_its_time_and_in_its_channel() -> None:
    audio = np.zeros((2, 30 * RATE_HZ), np.float32)
    audio[0, 10 * RATE_HZ] = 1.0
    audio[1, 20 * RATE_HZ] = -1.0
    left, right = read_outlines(draw_waveform(audio, RATE_HZ))
    # In SVG, y increases downwards. The panel of a channel is 108 points high, and its time axis is 720 points wide.
    up = left[left[:, 1].argmin()]
    down = right[right[:, 1].argmax()]
    assert np.median(left[:, 1]) - up[1] == pytest.approx(54, abs=0.3)
    assert down[1] - np.median(right[:, 1]) == pytest.approx(54, abs=0.3)
    assert (up[0] - left[:, 0].min()) / 720 == pytest.approx(1 / 3, abs=0.002)
    assert (down[0] - right[:, 0].min()) / 720 == pytest.approx(2 / 3, abs=0.002)
    assert np.ptp(left[:, 0]) == pytest.approx(720, abs=1e-3)
    assert left[:, 1].max() == pytest.approx(np.median(left[:, 1]), abs=0.3)


def test_a_waveform_beyond_full_scale_stays_inside_its_panel() -> None:
    [outline] = read_outlines(draw_waveform(hiss(1, channels=1, gain=4.0), RATE_HZ))
    assert np.ptp(outline[:, 1]) == pytest.approx(108, abs=0.5)


@pytest.mark.parametrize("count", [1, 2, 100, 719, 721, 2_047, 2_049])
@pytest.mark.parametrize("draw", [draw_waveform, draw_spectrogram])
def test_short_audio_and_silence_are_drawn(draw: Draw, count: int) -> None:
    for audio in (hiss(1)[:, :count], np.zeros((1, count), np.float32)):
        assert draw(audio, RATE_HZ)


@pytest.mark.parametrize("draw", [draw_waveform, draw_spectrogram])
def test_the_same_audio_gives_the_same_bytes(draw: Draw) -> None:
    assert draw(hiss(2), RATE_HZ) == draw(hiss(2), RATE_HZ)


def test_a_spectrogram_shows_a_tone_at_its_frequency() -> None:
    image = Image.open(io.BytesIO(draw_spectrogram(sing(12_000), RATE_HZ)))
    assert image.format == "PNG"
    assert image.size == (900, 300)
    pixels = np.asarray(image.convert("L"), dtype=np.float64)[15:250, 60:800]
    rows = pixels[:, 100:600].mean(axis=1)
    assert rows.argmax() == pytest.approx(len(rows) * (1 - 12 / 16), abs=2)
    assert rows.max() > 3 * np.median(rows)


@pytest.mark.parametrize("duration_s", [0.5, 20.0, 100.0])
def test_a_tone_of_full_scale_has_0_dbfs_in_every_column(duration_s: float) -> None:
    levels = pictures._analyse(sing(4_000, duration_s), RATE_HZ)
    assert levels.shape[1] <= 900
    inner = levels[:, 2:-2]  # in the outer columns, the window extends beyond the audio
    np.testing.assert_array_equal(inner.argmax(axis=0), 4_000 * 2_048 / RATE_HZ)
    np.testing.assert_allclose(inner.max(axis=0), 0, atol=0.05)


def test_levels_do_not_depend_on_how_many_frames_are_transformed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = hiss(60)
    whole = pictures._analyse(audio, RATE_HZ)
    monkeypatch.setattr(pictures, "FRAMES_AT_ONCE", 101)
    np.testing.assert_allclose(pictures._analyse(audio, RATE_HZ), whole, atol=1e-6)


def test_silence_has_the_level_of_the_floor() -> None:
    levels = pictures._analyse(np.zeros((2, RATE_HZ), np.float32), RATE_HZ)
    np.testing.assert_array_equal(levels, -120)


def test_pictures_of_earlier_samples_stay_in_no_memory() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 10 * 32_000)).astype(np.float32)
    draw_spectrogram(noise, 32_000)
    gc.collect()
    gc.disable()  # figures have parts that refer to each other
    tracemalloc.start()
    try:
        for _ in range(4):
            draw_waveform(noise, 32_000)
            draw_spectrogram(noise, 32_000)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept_bytes < 2 * 900 * 1025 * 8  # less than the levels of two spectrograms
