"""The client generates the music of a file again, on an instance with another state folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shared.audio.tags import read_tags
from shared.client import Client
from shared.client.__main__ import main
from shared.client.commands import Exit
from shared.instance.ready import format_address
from shared.kinds.musicgen.audio_encoding import encode
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import Format
from shared.settings import Settings
from tests.conftest import SHORT_INTERVALS
from tests.support.instances import make_settings, wait_for_ready
from tests.support.processes import ServiceProcess
from worker.engines.musicgen.model import builtin_model
from worker.engines.musicgen.model.random_model import write_random_model

STEREO = "someone/stereo"
BASE: dict[str, Any] = {"model": TINY, "prompts": ["rock"], "max_new_tokens": 20}
VARIATIONS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "clip": {"clips": [{"start_s": 0.1, "end_s": 0.3}]},
    "clip alone": {"prompts": [], "clips": [{}]},
    "stereo": {"model": STEREO, "format": "mp3"},
    "another rate": {"sample_rate": 48_000, "format": "ogg"},
    "levelled": {"loudness": "lufs", "format": "wav16"},
    "unconditional": {"prompts": []},
    "another script": {"prompts": ["一首悲伤的\n钢琴曲 🎵"], "format": "mp3"},
    "one of several": {"prompts": ["rock", "jazz"], "num_samples": 2, "sample": 3},
}


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Settings]]:
    """Two instances that share nothing but the folder of a model."""
    models = tmp_path_factory.mktemp("models")
    write_random_model(models / STEREO, replace(builtin_model.TINY, channels=2, loudness=1.0), seed=1)
    with ExitStack() as stack:
        started = []
        for name in ("first", "second"):
            settings = stack.enter_context(make_settings(models_dir=models, **SHORT_INTERVALS))
            log = tmp_path_factory.mktemp(name) / "up.log"
            instance = ServiceProcess("shared.instance.up", settings=settings, log=log)
            stack.callback(instance.close)
            started.append((instance, settings))
        for instance, settings in started:
            wait_for_ready(instance, settings)
        yield started[0][1], started[1][1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip to continue, as a file at another sampling rate than that of the model."""
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, 0.5 * np.sin(np.arange(22_050) / 20), 44_100)
    return path


def make(
    settings: Settings, folder: Path, clip: Path | None = None, clips: Any = (), sample: int = 0, **params: Any
) -> Path:
    """Run a job, and return the path of the audio of one of its samples."""
    with Client(format_address(settings)) as client:
        if clip is not None:
            upload = client.wait_for_upload(client.upload(clip).id).id
            params["audio_prompts"] = [{"upload": upload, **part} for part in clips]
        job = client.wait(client.submit("musicgen", BASE | params).id)
        assert job.error is None
        assert job.result is not None
        [audio] = client.download(job.id, folder, job.result["samples"][sample]["audio"])
        return audio


def reproduce(settings: Settings, *words: object) -> Exit:
    return main(["reproduce", "--server", format_address(settings), *map(str, words)])


@pytest.mark.parametrize("audio_format", Format)
def test_a_file_of_each_format_is_generated_again(
    instances: tuple[Settings, Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str], audio_format: Format
) -> None:
    audio = make(instances[0], tmp_path, format=audio_format)
    assert audio.name.startswith("rock ")
    assert reproduce(instances[1], audio) is Exit.DONE
    assert capsys.readouterr().out.startswith("equal: ")


@pytest.mark.parametrize("name", VARIATIONS)
def test_every_kind_of_music_is_generated_again(
    instances: tuple[Settings, Settings], tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    has_clip = "clips" in VARIATIONS[name]
    audio = make(instances[0], tmp_path, clip if has_clip else None, **VARIATIONS[name])
    words = ["--clip", clip] if has_clip else []
    assert reproduce(instances[1], audio, *words) is Exit.DONE
    assert capsys.readouterr().out.startswith("equal: ")


def test_the_clip_must_be_the_one_that_the_file_names(
    instances: tuple[Settings, Settings], tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = make(instances[0], tmp_path, clip, clips=[{}])
    other = tmp_path / "other.wav"
    other.write_bytes(clip.read_bytes() + b"\0")
    assert reproduce(instances[1], audio) is Exit.REFUSED
    assert "give the file that was uploaded with --clip; its SHA-256 is" in capsys.readouterr().err
    assert reproduce(instances[1], audio, "--clip", other) is Exit.REFUSED
    assert "is another clip" in capsys.readouterr().err


def test_other_codes_are_said_with_what_differs(
    instances: tuple[Settings, Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = make(instances[0], tmp_path, do_sample=False)
    with audio.open("rb") as file:
        tags = read_tags(file)
    samples, rate_hz = soundfile.read(audio, dtype="float32", always_2d=True)
    comment = tags.comment.replace('"codes_sha256": "', '"codes_sha256": "0').replace("openvino", "elsewhere")
    changed = tmp_path / "changed.flac"
    changed.write_bytes(encode(samples.T, rate_hz, Format.FLAC, replace(tags, comment=comment))[0])
    assert reproduce(instances[1], changed) is Exit.DIFFERENT
    told = capsys.readouterr().out
    assert told.startswith("different: ")
    assert "engine: elsewhere made the file, openvino made the job" in told


def test_a_file_that_mindjobs_did_not_write_is_refused_with_a_sentence(
    instances: tuple[Settings, Settings], tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.mp3"
    text.write_text("no music")
    assert reproduce(instances[0], clip) is Exit.REFUSED
    assert "does not say what made it" in capsys.readouterr().err
    assert reproduce(instances[0], text) is Exit.REFUSED
    assert "is not a WAV, FLAC, Ogg or MP3 file that can be read" in capsys.readouterr().err
    assert reproduce(instances[0], tmp_path / "missing.wav") is Exit.REFUSED
    assert "No such file" in capsys.readouterr().err
