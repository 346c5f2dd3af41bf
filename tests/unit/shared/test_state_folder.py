"""The state folder is created for its user alone, and an existing one is closed to others."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import Settings
from shared.state_folder import make_state_folder, protect_state

OTHER_USER = 65_534


@pytest.fixture(autouse=True)
def mask() -> Iterator[None]:
    """Give the test the umask of most systems, and restore that of the process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # so that a developer's .env is not read
    return Settings(home=tmp_path / "above" / "home")


def get_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_state_folder_is_closed_to_others(settings: Settings) -> None:
    make_state_folder(settings)
    assert get_mode(settings.home) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o2775])
def test_existing_state_folder_is_closed_to_others_and_keeps_its_files(settings: Settings, mode: int) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "file").write_text("kept")
    settings.home.chmod(mode)
    make_state_folder(settings)
    assert get_mode(settings.home) == 0o700
    assert (settings.home / "file").read_text() == "kept"


def test_state_folder_that_is_closed_already_is_not_changed(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.home.chmod(0o500)
    make_state_folder(settings)
    assert get_mode(settings.home) == 0o500


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_state_folder_of_another_user_is_not_changed(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    os.chown(settings.home, OTHER_USER, OTHER_USER)
    make_state_folder(settings)
    assert get_mode(settings.home) == 0o755


def test_files_that_the_process_creates_are_closed_to_others(settings: Settings) -> None:
    protect_state(settings)
    (settings.home / "folder").mkdir()
    (settings.home / "folder" / "file").touch()
    modes = [get_mode(settings.home / name) for name in ("", "folder", "folder/file")]
    assert modes == [0o700, 0o700, 0o600]


def test_file_in_place_of_the_state_folder_is_refused_with_the_remedy(settings: Settings) -> None:
    settings.home.parent.mkdir()
    settings.home.touch()
    with pytest.raises(SettingsError, match=r"MINDJOBS_HOME: .* cannot be the state folder .* Choose a folder"):
        protect_state(settings)
