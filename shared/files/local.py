"""The files: uploads, artifacts and checkpoints, each written whole or not at all.

A file is written under a temporary name in its own folder, synced, renamed,
and its folder synced; only then is it recorded. What a crash leaves behind is
a temporary file or an unrecorded one, and the sweeper removes both. No row
records a checkpoint: it lies in a folder of its own, for as long as its job has
not ended.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from shared.errors import SettingsError, TooLargeError
from shared.ids import make_id

TEMPORARY: Final = ".part-"
CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True)
class StoredBytes:
    """What was written."""

    path: str
    bytes: int
    sha256: str


class LocalFileStore:
    """A folder of files, shared by every process of this instance.

    Parameters
    ----------
    url
        ``file:///…``: a folder on this machine, or one that all machines mount.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc or not parts.path:
            raise SettingsError(f"MINDJOBS_STORAGE_URL: {url!r} is not known; give file:///an/absolute/folder")
        self.root = Path(unquote(parts.path))

    def write(self, path: str, chunks: Iterable[bytes], max_bytes: int | None = None) -> StoredBytes:
        """Write a file that outlasts a crash when this returns; until then what was in its place does.

        Parameters
        ----------
        path
            Where, relative to the root; made of our own words and identifiers only.
        chunks
            The content.
        max_bytes
            Stop and leave nothing when the content turns out longer.

        Raises
        ------
        TooLargeError
            It was longer.
        """
        return self._write(path, chunks, max_bytes, synced=True)

    def place(self, path: str, chunks: Iterable[bytes]) -> StoredBytes:
        """Write a new file, which outlasts a crash once it is settled.

        A job's files are settled together: the disk then writes its journal once, and not
        twice for each of them.
        """
        return self._write(path, chunks, None, synced=False)

    def settle(self, paths: Iterable[str]) -> None:
        """Make files that were placed outlast a crash, with the folders that they lie in."""
        files = [self.root / path for path in paths]
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self.root)}
        for entry in [*files, *sorted(folders, reverse=True)]:
            _sync(entry)

    def _write(self, path: str, chunks: Iterable[bytes], max_bytes: int | None, *, synced: bool) -> StoredBytes:
        target = self.root / path
        _make_folder(target.parent, synced=synced)
        temporary = target.with_name(f"{TEMPORARY}{make_id()}")
        digest = hashlib.sha256()
        size = 0
        try:
            with temporary.open("wb") as file:
                for chunk in _limit(chunks, max_bytes):
                    size += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.rename(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if synced:
            _sync(target.parent)
        return StoredBytes(path, size, digest.hexdigest())

    def locate(self, path: str) -> Path:
        """Return where a file lies on this machine."""
        return self.root / path

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it; one that is gone already is fine."""
        target = self.root / path
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)

    def list_names(self, path: str) -> list[str]:
        """List the names in a folder; none where there is no such folder."""
        folder = self.root / path
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def list_old_files(self, path: str, older_than_s: float) -> list[Path]:
        """List every file below a folder that was written longer ago than that."""
        latest = time.time() - older_than_s
        return [file for file in sorted((self.root / path).rglob("*")) if _was_written_before(file, latest)]


def upload_key(upload_id: str) -> str:
    """Return where an upload lies."""
    return f"uploads/{upload_id}"


def job_prefix(job_id: str) -> str:
    """Return the folder of a job's files, of all its attempts."""
    return f"jobs/{job_id}"


def artifact_key(job_id: str, attempt: int, name: str) -> str:
    """Return where an artifact lies: in a folder of its attempt, so that a late worker overwrites nothing."""
    return f"{job_prefix(job_id)}/{attempt}/{name}"


def checkpoint_prefix(job_id: str) -> str:
    """Return the folder of a job's checkpoints, of all its attempts."""
    return f"{CHECKPOINTS}/{job_id}"


def checkpoint_key(job_id: str, attempt: int) -> str:
    """Return where an attempt keeps its checkpoint: one place each, so that a late worker overwrites nothing."""
    return f"{checkpoint_prefix(job_id)}/{attempt}"


def _was_written_before(file: Path, moment: float) -> bool:
    try:
        return file.is_file() and file.stat().st_mtime < moment
    except FileNotFoundError:  # removed since it was listed
        return False


def _limit(chunks: Iterable[bytes], max_bytes: int | None) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise TooLargeError(f"The file is larger than the {max_bytes} bytes allowed; send a smaller one.")
        yield chunk


def _make_folder(folder: Path, *, synced: bool) -> None:
    """Make a folder and its parents, each synced into the one above."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, synced=synced)
    folder.mkdir(exist_ok=True)
    if synced:
        _sync(folder.parent)


def _sync(entry: Path) -> None:
    handle = os.open(entry, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
