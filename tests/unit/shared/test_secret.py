"""The secret of an instance: all threads and processes get the same secret, and no other user can read its file."""

import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.database.migrate import ROOT
from shared.errors import SettingsError
from shared.secret import derive_secret, load_secret
from shared.settings import Settings
from tests.support.processes import make_environment

ASK = "from shared.secret import load_secret; from shared.settings import load_settings; "
ASK += "settings = load_settings(); print('ready', flush=True); input(); print(load_secret(settings).decode())"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # so that a developer's .env is not read
    return Settings(home=tmp_path / "home")


def test_concurrent_threads_get_the_same_secret(settings: Settings) -> None:
    start = threading.Barrier(8)

    def ask(_: int) -> bytes:
        start.wait()
        return load_secret(settings)

    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(ask, range(8)))
    assert len(secrets) == 1
    assert len(secrets.pop()) == 64
    assert [path.name for path in settings.home.iterdir()] == ["secret"]


@pytest.mark.slow
def test_concurrent_processes_get_the_same_secret(settings: Settings) -> None:
    command = [sys.executable, "-c", ASK]
    environment = make_environment(settings)
    asking = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in asking:  # all processes are ready before the first one loads the secret
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in asking}
    assert [process.returncode for process in asking] == [0, 0, 0]
    assert answers == {f"{load_secret(settings).decode()}\n"}


def test_only_the_user_of_the_instance_may_read_the_secret_file(settings: Settings) -> None:
    load_secret(settings)
    assert stat.S_IMODE((settings.home / "secret").stat().st_mode) == 0o600


def test_secret_in_the_settings_is_used_and_no_file_is_created(settings: Settings) -> None:
    assert load_secret(settings.model_copy(update={"secret": "mine"})) == b"mine"
    assert not settings.home.exists()


def test_derived_secret_depends_on_the_secret_and_the_purpose() -> None:
    assert len({derive_secret(b"one", "a"), derive_secret(b"one", "b"), derive_secret(b"other", "a")}) == 3
    assert derive_secret(b"one", "a") == derive_secret(b"one", "a")


def test_damaged_secret_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path)
    (tmp_path / "secret").touch()
    with pytest.raises(SettingsError, match=r"secret is damaged\. Delete it"):
        load_secret(settings)
