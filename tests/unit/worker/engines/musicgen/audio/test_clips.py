"""Clips are read by a process without rights, and faults of a clip are reported."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from shared.audio.facts import AudioFacts
from shared.errors import JobFailedError, JobStoppedError
from shared.inspection import sandbox
from shared.kinds.musicgen.judgement import find_problems, measure_part
from shared.kinds.musicgen.model_figures import PUBLISHED
from shared.kinds.musicgen.parameters import AudioPrompt, MusicgenParams
from shared.texts import text
from tests.support import probe_inspectors
from tests.support.audio_files import sing, write_wav
from tests.support.waiting import DEADLINE_S
from worker.engines.musicgen.audio import clips
from worker.engines.musicgen.audio.clips import Clip, ClipFormat, DecodingLimits, read_clip

pytestmark = pytest.mark.slow

WHERE: Final = "params.audio_prompts[3]"
MONO: Final = ClipFormat(sample_rate_hz=32_000, channels=1, max_length_s=30.0)
STEREO: Final = ClipFormat(sample_rate_hz=32_000, channels=2, max_length_s=30.0)
SHORT: Final = ClipFormat(sample_rate_hz=32_000, channels=1, max_length_s=1.5)
LIMITS: Final = DecodingLimits(memory_mb=256, timeout_s=DEADLINE_S, max_audio_s=3_600.0)


def ask(start_s: float = 0.0, end_s: float | None = None) -> AudioPrompt:
    return AudioPrompt(upload="x", start_s=start_s, end_s=end_s)


def read(path: Path, prompt: AudioPrompt, form: ClipFormat = MONO, check: Callable[[], object] = bool) -> Clip:
    return read_clip(path, prompt, form, WHERE, limits=LIMITS, check_wanted=check)


def fail(path: Path, prompt: AudioPrompt, form: ClipFormat = MONO) -> JobFailedError:
    with pytest.raises(JobFailedError) as caught:
        read(path, prompt, form)
    assert WHERE in caught.value.detail
    assert str(path.parent) not in caught.value.detail
    return caught.value


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """Two seconds; the right channel is half as loud as the left one."""
    samples = sing(440, 2, 44_100)[:, None] * [1.0, 0.5]
    return write_wav(tmp_path / "clip", samples, 44_100, as_floats=True)


@pytest.mark.parametrize(("form", "levels"), [(MONO, [0.75]), (STEREO, [1.0, 0.5])])
def test_clip_has_the_rate_and_the_channels_of_the_model(tone: Path, form: ClipFormat, levels: list[float]) -> None:
    clip = read(tone, ask(0.2, 1.2), form)
    assert clip.warnings == ()
    assert clip.audio.dtype == np.float32
    assert clip.audio.shape == (form.channels, 32_000)
    expected = np.multiply.outer(levels, sing(440, 1.2, 32_000)[6_400:])
    # The ends are not compared: the abrupt start and end of the part make the resampler ring.
    assert np.abs(clip.audio - expected)[:, 500:-500].max() < 1e-4


def test_longest_clip_of_a_stereo_model_is_returned_whole(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", np.full((40 * 8_000, 1), 0.25), 8_000)
    clip = read(path, ask(), ClipFormat(48_000, 2, max_length_s=40.0))
    assert clip.audio.shape == (2, 40 * 48_000)


def test_what_is_unusual_about_a_clip_is_said(tmp_path: Path) -> None:
    quiet = write_wav(tmp_path / "clip", np.zeros((8_000, 1)), 8_000)
    clip = read(quiet, ask())
    assert not clip.audio.any()
    (warning,) = clip.warnings
    assert (warning.code, warning.details[0].code) == ("clip-warning", "sound-silent")


@pytest.mark.parametrize(
    ("content", "type_", "words"),
    [
        (b"", "clip-unreadable", "known format"),
        (b"not a sound" * 50, "clip-unreadable", "WAV, FLAC, MP3 or M4A"),
        (b"#EXTM3U\nfile:///etc/hostname\n", "clip-unreadable", "is a playlist"),
    ],
)
def test_a_file_that_is_not_audio_is_refused(tmp_path: Path, content: bytes, type_: str, words: str) -> None:
    path = tmp_path / "clip"
    path.write_bytes(content)
    error = fail(path, ask())
    assert error.type == type_
    assert words in error.detail


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    assert fail(write_wav(tmp_path / "clip.wav", np.zeros((0, 1)), 44_100), ask()).type == "clip-empty"


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
    tone: Path, prompt: AudioPrompt, type_: str, words: str
) -> None:
    error = fail(tone, prompt, SHORT)
    assert error.type == type_
    assert words in error.detail


def test_an_end_that_is_the_length_of_the_file_rounded_up_is_accepted(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip.wav", sing(440, 1.994, 32_000)[:, None], 32_000)
    assert read(path, ask(0, 2.0)).audio.shape == (1, 63_808)


@pytest.mark.parametrize(
    ("rate_hz", "start_s", "end_s"),
    [(11_025, 0.0, 0.1), (22_050, 0.03, 0.13), (44_100, 1.384, 1.484), (44_100, 1.9, None), (11_025, 0.5, 1.5)],
)
def test_part_that_a_submission_accepts_is_accepted_and_no_sample_longer(
    tmp_path: Path, rate_hz: int, start_s: float, end_s: float | None
) -> None:
    path = write_wav(tmp_path / "clip.wav", sing(440, 2.0, rate_hz)[:, None], rate_hz)
    prompt, form = ask(start_s, end_s), MONO
    params = MusicgenParams(audio_prompts=[prompt])
    facts = AudioFacts(duration_s=2.0, rate=rate_hz, channels=1, format="wav", codec="pcm_s16le")
    assert list(find_problems(params, {prompt.upload: facts}, PUBLISHED[1])) == []
    judged = round(measure_part(prompt, 2.0) * form.sample_rate_hz)
    assert judged - 3 <= read(path, prompt, form).audio.shape[1] <= judged


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [MONO, STEREO], ids=["mono", "stereo"])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, wrong: float, form: ClipFormat) -> None:
    samples = np.zeros((44_100, 2))
    samples[20_000] = wrong, -wrong
    path = write_wav(tmp_path / "clip.wav", samples, 44_100, as_floats=True)
    error = fail(path, ask(), form)
    assert error.type == "clip-unreadable"
    assert "NaN or infinite" in error.detail
    assert not read(path, ask(0.5), form).audio.any()


def misbehave(monkeypatch: pytest.MonkeyPatch, probe: Callable[..., object]) -> None:
    """Let the process do something else than decode, as if a file had taken it over."""
    monkeypatch.setattr(clips, "FUNCTION", f"{probe_inspectors.MODULE}:{probe.__name__}")


def test_a_file_that_ends_its_decoder_fails_the_job_alone(tone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, probe_inspectors.crash)
    error = fail(tone, ask())
    assert error.type == "clip-unreadable"
    assert "damaged" in error.detail


GOOD: Final[Mapping[str, Any]] = {"read_s": 2.0, "part_s": 2.0, "ended": True, "warnings": []}
SECONDS: Final = np.zeros(64_000, np.float32)


@pytest.mark.parametrize(
    ("facts", "audio"),
    [
        ({}, SECONDS),
        ({**GOOD, "part_s": -1.0}, SECONDS),
        ({**GOOD, "ended": None}, SECONDS),
        ({**GOOD, "more": 1}, SECONDS),
        ({**GOOD, "warnings": [{"code": "sound-silent", "values": {}}]}, SECONDS),
        ({**GOOD, "warnings": [{"code": "sound-silent", "values": {"level_dbfs": 10**400}}]}, SECONDS),
        ({**GOOD, "warnings": [{"code": "x" * 2_000, "values": {}}]}, SECONDS),
        ({**GOOD, "warnings": [{"code": "sound-silent", "values": {"level_dbfs": 1}}] * 21}, SECONDS),
        (GOOD, SECONDS[:0]),
        (GOOD, SECONDS[:32_000]),
        (GOOD, np.zeros(640_000, np.float32)),
        (GOOD, np.full(64_000, np.nan, np.float32)),
    ],
)
def test_answer_that_does_not_fit_is_refused(
    tone: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], audio: NDArray[np.float32]
) -> None:
    def decode(*_: object, **__: object) -> sandbox.Answer:
        return sandbox.Answer(facts=facts, content=audio.tobytes())

    monkeypatch.setattr(clips, "_decode", decode)
    error = fail(tone, ask())
    assert (error.type, error.text.code) == ("clip-unreadable", "clip-undecodable")


def test_job_that_must_stop_ends_the_process(tone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, probe_inspectors.wait)
    monkeypatch.setattr(sandbox, "KEEP_WAITING_INTERVAL_S", 0.0)
    others, calls = set(psutil.Process().children()), list[psutil.Process]()

    def stop() -> None:
        calls.extend(set(psutil.Process().children()) - others)
        raise JobStoppedError(text("cancelled"))

    with pytest.raises(JobStoppedError):
        read(tone, ask(), check=stop)
    assert calls
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in calls)
