"""The file store in a folder of this machine, or of a file system that all machines mount.

A file is written to its folder under a temporary name, synced, and renamed; then the folder is synced.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import unquote, urlsplit

from shared.disk_space import measure_free_bytes
from shared.errors import SettingsError
from shared.files.file_store import FileInfo, LocalFile, StoredBytes, limit_chunks
from shared.ids import make_id
from shared.texts import text

TEMPORARY_PREFIX: Final = ".part-"
"""The start of the name of a file that is still being written."""


class LocalFileStore:
    """A `FileStore` in a folder.

    Parameters
    ----------
    root
        The folder; a key is a path relative to this folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open the store that a URL such as ``file:///an/absolute/folder`` names.

        Raises
        ------
        SettingsError
            The URL does not name an absolute folder on this machine.
        """
        parts = urlsplit(url)
        if parts.netloc or not parts.path:
            raise SettingsError(text("storage-folder-invalid", url=url))
        return cls(Path(unquote(parts.path)))

    def put(
        self, key: str, chunks: Iterable[bytes], *, durable: bool = True, max_bytes: int | None = None
    ) -> StoredBytes:
        """See `FileStore.put`."""
        target = self.root / key
        _make_folder(target.parent, durable=durable)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{make_id()}")
        digest = hashlib.sha256()
        size = 0
        try:
            with temporary.open("wb") as file:
                for chunk in limit_chunks(chunks, max_bytes):
                    size += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.rename(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            _sync(target.parent)
        return StoredBytes(key, size, digest.hexdigest())

    def free_bytes(self) -> int:
        """Return the free space of the disk."""
        return measure_free_bytes(self.root)

    def sync(self, keys: Iterable[str]) -> None:
        """See `FileStore.sync`; the folders that contain the files are synced too.

        The files of a job are synced together, so that the disk writes its journal once, instead of twice for each
        file.
        """
        files = [self.root / key for key in keys]
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self.root)}
        for entry in [*files, *sorted(folders, reverse=True)]:
            _sync(entry)

    def open(self, key: str) -> BinaryIO:
        """See `FileStore.open`."""
        return (self.root / key).open("rb")

    def stat(self, key: str) -> FileInfo | None:
        """See `FileStore.stat`."""
        return self._describe(self.root / key)

    def download_source(self, key: str) -> LocalFile:
        """See `FileStore.download_source`."""
        return LocalFile(self._find(key))

    @contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        """See `FileStore.local_copy`; the path is the path of the stored file itself."""
        yield self._find(key)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """See `FileStore.list`."""
        found = map(self._describe, (self.root / prefix).rglob("*"))
        yield from sorted((info for info in found if info is not None), key=lambda info: info.key)

    def remove(self, key: str) -> None:
        """See `FileStore.remove`."""
        target = self.root / key
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)

    def _find(self, key: str) -> Path:
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    def _describe(self, path: Path) -> FileInfo | None:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):  # the file may have been removed after it was listed
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        key = path.relative_to(self.root).as_posix()
        return FileInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _make_folder(folder: Path, *, durable: bool) -> None:
    """Make a folder and its parents; if ``durable``, also sync the parent of each new folder."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, durable=durable)
    folder.mkdir(exist_ok=True)
    if durable:
        _sync(folder.parent)


def _sync(entry: Path) -> None:
    handle = os.open(entry, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
