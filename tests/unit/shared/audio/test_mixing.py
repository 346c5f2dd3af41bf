"""Channels are mixed as ITU-R BS.775 says."""

import numpy as np
import pytest

from shared.audio.mixing import is_surround, limit_peak, mix

pytestmark = pytest.mark.quick

STEREO = ("FL", "FR")
SURROUND = ("FL", "FR", "FC", "LFE", "SL", "SR")
MINUS_3_DB = 0.5**0.5


def mix_one(layout: tuple[str, ...], channel: str, channels: int) -> list[float]:
    """Mix a layout of which one channel is at full scale and the others are silent."""
    samples = np.array([[float(name == channel) for name in layout]], np.float32)
    return [float(it) for it in mix(samples, layout, channels)[0]]


@pytest.mark.parametrize(
    ("channel", "left", "right"),
    [
        ("FL", 1.0, 0.0),
        ("FR", 0.0, 1.0),
        ("FC", MINUS_3_DB, MINUS_3_DB),
        ("LFE", 0.0, 0.0),
        ("SL", MINUS_3_DB, 0.0),
        ("SR", 0.0, MINUS_3_DB),
    ],
)
def test_surround_sound_is_mixed_with_these_weights(channel: str, left: float, right: float) -> None:
    assert mix_one(SURROUND, channel, 2) == pytest.approx([left, right])
    assert mix_one(SURROUND, channel, 1) == pytest.approx([(left + right) / 2])


@pytest.mark.parametrize(
    "layout",
    [
        ("FL", "FR", "FC", "BL", "BR"),
        ("FL", "FR", "FC", "LFE", "BL", "BR"),
        ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
        ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    ],
)
def test_front_channels_keep_their_level_whatever_else_there_is(layout: tuple[str, ...]) -> None:
    tone = np.full((10, 1), 0.5, np.float32)
    samples = np.where([name in STEREO for name in layout], tone, np.float32(0))
    assert is_surround(layout)
    np.testing.assert_allclose(mix(samples, layout, 2), 0.5, rtol=1e-6)
    np.testing.assert_allclose(mix(samples, layout, 1), 0.5, rtol=1e-6)


def test_stereo_keeps_its_sides_and_mono_is_their_mean() -> None:
    samples = np.array([[0.5, -0.25], [0.0, 1.0]], np.float32)
    for layout in (STEREO, ("NONE", "NONE")):
        np.testing.assert_array_equal(mix(samples, layout, 2), samples)
        np.testing.assert_allclose(mix(samples, layout, 1), [[0.125], [0.5]])


def test_mono_is_on_both_sides() -> None:
    np.testing.assert_array_equal(mix(np.array([[0.5]], np.float32), ("FC",), 2), [[0.5, 0.5]])


def test_unknown_layouts_are_averaged() -> None:
    layout = ("NONE",) * 4
    assert not is_surround(layout)
    np.testing.assert_allclose(mix(np.array([[1, 0, 0, 1]], np.float32), layout, 2), [[0.5, 0.5]])


def test_mix_beyond_full_scale_is_made_quieter_as_a_whole() -> None:
    mixed = np.array([[2.0, -0.5], [0.1, 0.2]], np.float32)
    np.testing.assert_allclose(limit_peak(mixed), [[1.0, -0.25], [0.05, 0.1]])
    np.testing.assert_array_equal(limit_peak(mixed / 2), mixed / 2)
    assert limit_peak(mixed[:0]).shape == (0, 2)
