"""Faults in audio are reported; audio without faults gives no warnings."""

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.kinds.musicgen.audio_encoding import CLIPPING_FORMATS
from shared.kinds.musicgen.parameters import Format, Loudness
from shared.texts import render, text
from worker.engines.musicgen.audio.quality import find_clipping, find_warnings

RATE_HZ = 32_000
Audio = NDArray[np.float32]


def hiss(level_dbfs: float, duration_s: float = 4.0, channels: int = 2) -> Audio:
    """Make noise of an exact level; below a level of -12 dBFS, no sample is near full scale."""
    noise = np.random.default_rng(1).uniform(-1, 1, (channels, round(duration_s * RATE_HZ)))
    return np.asarray(10 ** (level_dbfs / 20) * noise / np.sqrt(np.square(noise).mean()), dtype=np.float32)


@pytest.mark.parametrize("clip", [None, hiss(-20)], ids=["text", "clip"])
def test_music_without_faults_gives_no_warning(clip: Audio | None) -> None:
    prompt = 0 if clip is None else clip.shape[1]
    assert find_warnings(hiss(-20, 10), clip, RATE_HZ, prompt) == []


def test_a_sample_without_new_music_gives_no_warning() -> None:
    assert find_warnings(hiss(-20), hiss(-20), RATE_HZ, prompt_samples=4 * RATE_HZ) == []


def test_samples_beyond_full_scale_in_a_file_are_reported_with_share_and_excess() -> None:
    audio = hiss(-20)
    audio[0, :2_560] = 2.0
    warning = find_clipping(audio, audio, Format.WAV, Loudness.NONE)
    assert warning is not None
    assert warning.code == "audio-clipping"
    assert render(warning).startswith(
        "Clipping: 1.00% of the samples in the file are beyond full scale, by up to 6.0 dB."
    )


@pytest.mark.parametrize("audio_format", sorted(CLIPPING_FORMATS))
def test_what_a_format_cuts_off_is_reported(audio_format: Format) -> None:
    audio = hiss(-20)
    audio[0, :2_560] = -2.0
    warning = find_clipping(audio, np.clip(audio, -1, 1), audio_format, Loudness.NONE)
    assert warning is not None
    assert warning.code == "audio-cut"
    assert f"by up to 6.0 dB, and were cut off in the file, because {audio_format} files end" in render(warning)


@pytest.mark.parametrize("loudness", Loudness)
def test_peaks_that_a_lossy_format_adds_are_reported_without_advice_to_level(loudness: Loudness) -> None:
    written = hiss(-20)
    written[0, :2_560] = 1.1
    warning = find_clipping(hiss(-20), written, Format.MP3, loudness)
    assert warning is not None
    assert warning.code == "audio-overshoot"
    assert "loudness" not in render(warning)


def test_a_few_clipped_samples_give_no_warning() -> None:
    audio = hiss(-20)
    audio[1, 100:110] = -1.1
    assert find_clipping(audio, audio, Format.WAV, Loudness.NONE) is None
    audio[1, 100:111] = -1.1
    assert find_clipping(audio, audio, Format.WAV, Loudness.NONE) is not None


@pytest.mark.parametrize("level_dbfs", [-61, -200])
def test_quiet_music_is_reported_as_silence(level_dbfs: float) -> None:
    [warning] = find_warnings(hiss(level_dbfs), None, RATE_HZ)
    assert render(warning).startswith("Silence: the music is below -60 dBFS.")
    assert find_warnings(hiss(-59), None, RATE_HZ) == []


def test_digital_silence_is_reported() -> None:
    [warning] = find_warnings(np.zeros((1, 5_000), np.float32), None, RATE_HZ)
    assert warning.code == "audio-silent"


def test_mostly_silent_music_is_reported() -> None:
    audio = hiss(-20, 10)
    audio[:, 2 * RATE_HZ :] = 0
    [warning] = find_warnings(audio, None, RATE_HZ)
    assert render(warning).startswith("Silence: 80% of the music is below")
    audio = hiss(-20, 10)
    audio[:, 6 * RATE_HZ :] = 0
    assert find_warnings(audio, None, RATE_HZ) == []


def test_the_clip_does_not_count_as_new_music() -> None:
    clip = hiss(-20, 8)
    audio = np.concatenate([clip, np.zeros((2, 2 * RATE_HZ), np.float32)], axis=1)
    silence, drop = find_warnings(audio, clip, RATE_HZ, clip.shape[1])
    assert silence.code == "audio-silent"
    assert drop == text("audio-starts-silent", start_s=2.0)


@pytest.mark.parametrize(("drop_db", "count"), [(11, 0), (13, 1)])
def test_a_start_much_quieter_than_the_clip_is_reported(drop_db: float, count: int) -> None:
    clip = hiss(-20, 3)
    # Only the first two seconds of the new music are compared with the clip. After them, the new music is loud.
    audio = np.concatenate([clip, hiss(-20 - drop_db, 2), hiss(-10, 5)], axis=1)
    warnings = find_warnings(audio, clip, RATE_HZ, clip.shape[1])
    assert len(warnings) == count
    for warning in warnings:
        assert "the first 2.0 s of new music are 13 dB quieter than the clip" in render(warning)


def test_a_silent_clip_gives_no_warning() -> None:
    clip = np.zeros((2, RATE_HZ), np.float32)
    assert find_warnings(np.concatenate([clip, hiss(-50)], axis=1), clip, RATE_HZ, RATE_HZ) == []
