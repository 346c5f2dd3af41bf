"""Files on disk, and disks that are full."""

import os
from pathlib import Path

import pytest

from shared.files.file_store import FileStore
from shared.files.local import TEMPORARY_PREFIX, LocalFileStore


def path_on_disk(files: FileStore, key: str) -> Path:
    """Return where a local file store has a file, or would have it."""
    assert isinstance(files, LocalFileStore)
    return files.root / key


def list_keys(files: FileStore, prefix: str) -> list[str]:
    """List the keys of the files below a prefix."""
    return [file.key for file in files.list(prefix)]


def fill_disk(files: FileStore, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next write of a file directly below a prefix fail with a full disk.

    The kernel itself refuses the write: the temporary file, whose name is fixed in advance, is a link to a device
    without space.
    """
    monkeypatch.setattr("shared.files.local.make_id", lambda: "full")
    path_on_disk(files, prefix).mkdir(parents=True, exist_ok=True)
    path_on_disk(files, f"{prefix}/{TEMPORARY_PREFIX}full").symlink_to("/dev/full")


def record_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Record each file and folder that is synced from now on."""
    synced: list[Path] = []
    fsync = os.fsync

    def sync(handle: int) -> None:
        fsync(handle)
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", sync)
    return synced
