"""`worker.once` runs one job in the foreground, although neither a database nor Redis can be reached."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.support.processes import make_environment
from worker import once

RATE_HZ = 32_000


@pytest.fixture
def once_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose database and Redis cannot be reached."""
    monkeypatch.chdir(tmp_path)  # so that a developer's .env is not read
    return Settings(
        home=tmp_path / "home",
        database_url=f"sqlite:///{tmp_path}/missing/mindjobs.sqlite",
        redis_url="unix:///missing/redis.sock?db=0",
    )


def run_once(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker.once", *arguments],
        cwd=ROOT,
        env=make_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_job_runs_and_writes_its_files(once_settings: Settings, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.sin(np.linspace(0, 2_000, RATE_HZ // 2)), RATE_HZ)
    params = {
        "model": "mindjobs/tiny",
        "prompts": ["rock"],
        "audio_prompts": [{"upload": "u1"}],
        "duration_s": 0.2,
        "seed": 1,
    }
    out = tmp_path / "out"
    ended = run_once(
        once_settings, "musicgen", json.dumps(params), "--device", "cpu:0", "--upload", f"u1={clip}", "--out", str(out)
    )
    assert ended.returncode == 0, ended.stderr
    [sample] = json.loads(ended.stdout)["samples"]
    assert sample["prompt"] == "rock"
    names = {file.name for file in out.iterdir()}
    assert {sample["audio"], sample["codes"], "waveform-0.svg", "spectrogram-0.png"} == names
    assert soundfile.info(out / sample["audio"]).samplerate == RATE_HZ
    assert "writing: 1/1 samples" in ended.stderr


def test_invalid_parameters_are_reported_with_json_pointers(once_settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = run_once(once_settings, "knn", '{"k": 0, "colour": "red"}', "--out", str(out))
    assert ended.returncode == 1
    assert [line.partition(": ")[0] for line in ended.stderr.splitlines()] == ["/params/k", "/params/colour"]
    assert ended.stdout == ""
    assert not out.exists()


def test_an_upload_whose_file_is_not_given_on_the_command_line_is_reported(once_settings: Settings) -> None:
    ended = run_once(once_settings, "musicgen", '{"audio_prompts": [{"upload": "u1"}]}')
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("/params/audio_prompts/0/upload: ")
    assert "--upload u1=FILE" in ended.stderr


def test_a_failed_job_prints_the_error_without_a_traceback(once_settings: Settings, tmp_path: Path) -> None:
    # OpenVINO does not offer float16 on CPUs.
    params = json.dumps({"model": "mindjobs/tiny", "prompts": ["rock"], "precision": "float16"})
    ended = run_once(once_settings, "musicgen", params, "--out", str(tmp_path / "out"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "float16" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("knn", "{"), "not JSON"),
        (("knn", "{}", "--upload", "u1"), "ID=FILE"),
        (("knn", "{}", "--upload", "u1=/missing/file"), "ID=FILE"),
        (("knn", "{}", "--device", "cpu"), "is not a device"),
    ],
)
def test_an_invalid_command_line_is_refused(
    arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        once.main(arguments)
    assert exited.value.code == 2
    assert problem in capsys.readouterr().err
