"""Files on disk, and disks that are full."""

import hashlib
import os
from pathlib import Path

import pytest

from shared.database.tables import Artifact
from shared.files.file_store import FileStore
from shared.files.local import TEMPORARY_PREFIX, LocalFileStore


def path_on_disk(files: FileStore, key: str) -> Path:
    """Return the path at which a local file store keeps the file with a key; the file need not exist."""
    assert isinstance(files, LocalFileStore)
    return files.root / key


def is_stored(files: FileStore, artifact: Artifact) -> bool:
    """Return whether the file of an artifact exists with the size and the SHA-256 that were recorded."""
    path = path_on_disk(files, artifact.key)
    if not path.is_file() or path.stat().st_size != artifact.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256


def list_keys(files: FileStore, prefix: str) -> list[str]:
    """List the keys of the files below a prefix."""
    return [file.key for file in files.list(prefix)]


def fill_disk(files: FileStore, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next write of a file directly below a prefix fail because the disk is full.

    The kernel itself refuses the write: the name of the temporary file is fixed, and a link with this name leads to
    ``/dev/full``, a device without free space.
    """
    monkeypatch.setattr("shared.files.local.make_id", lambda: "full")
    path_on_disk(files, prefix).mkdir(parents=True, exist_ok=True)
    path_on_disk(files, f"{prefix}/{TEMPORARY_PREFIX}full").symlink_to("/dev/full")


def record_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list to which each file and folder that is synced from now on will be added."""
    synced: list[Path] = []
    fsync = os.fsync

    def sync(handle: int) -> None:
        fsync(handle)
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", sync)
    return synced
