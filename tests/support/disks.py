"""A disk without room, for whoever runs the tests."""

import os
from pathlib import Path

import pytest

from shared.files.local import TEMPORARY, LocalFileStore


def fill_disk(storage: LocalFileStore, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next write into a folder of the storage meet a full disk.

    The kernel itself refuses: the temporary file, whose name is made known
    beforehand, is a link to the device that has no room for anything.
    """
    monkeypatch.setattr("shared.files.local.make_id", lambda: "full")
    storage.locate(folder).mkdir(parents=True, exist_ok=True)
    storage.locate(f"{folder}/{TEMPORARY}full").symlink_to("/dev/full")


def note_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note each file and folder that is synced from now on."""
    synced: list[Path] = []
    fsync = os.fsync

    def sync(handle: int) -> None:
        fsync(handle)
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", sync)
    return synced
