"""The file store: uploads, artifacts and checkpoints, each stored whole or not at all.

Callers know keys (`shared.files.keys`) and never paths. A crash leaves unfinished or unrecorded files behind, which
the sweeper removes. No row records a checkpoint: it is kept under a prefix of its own until its job has ended.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from shared.errors import TooLargeError
from shared.texts import text


@dataclass(frozen=True)
class StoredBytes:
    """What `FileStore.put` stored."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class FileInfo:
    """A file in the store.

    Parameters
    ----------
    bytes
        Its size.
    written_at
        When it was written, in UTC, by the clock of the store.
    """

    key: str
    bytes: int
    written_at: datetime


@dataclass(frozen=True)
class LocalFile:
    """A download that this process can read from its own disk."""

    path: Path


@dataclass(frozen=True)
class SignedAddress:
    """A download from an address that is valid for a short time."""

    url: str


DownloadSource = LocalFile | SignedAddress
"""Where the content of a file can be sent from."""


class FileStore(Protocol):
    """Stores files by key, for every process of an instance.

    A key never names a file and a prefix of other files at the same time.
    """

    def put(
        self, key: str, chunks: Iterable[bytes], *, durable: bool = True, max_bytes: int | None = None
    ) -> StoredBytes:
        """Store a file in place of the one that had its key; until this returns, readers find the earlier one.

        Parameters
        ----------
        chunks
            The content.
        durable
            Whether the file survives a crash of the machine when this returns. If not, `sync` makes it durable.
        max_bytes
            Stop as soon as the content is longer, and store nothing.

        Raises
        ------
        TooLargeError
            The content is longer than ``max_bytes``.
        """

    def sync(self, keys: Iterable[str]) -> None:
        """Make files durable that were put with ``durable=False``, all of them together."""

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading; the stream can seek.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """

    def stat(self, key: str) -> FileInfo | None:
        """Return the size and age of a file, or ``None`` if there is no such file."""

    def download_source(self, key: str) -> DownloadSource:
        """Return where the file can be sent from.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """

    def local_copy(self, key: str) -> AbstractContextManager[Path]:
        """Provide the file on this machine for as long as the block runs, for libraries that read paths only.

        The file at the path must not be changed: it may be the stored file itself.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """List every file below a prefix, what interrupted writes left behind included, in the order of the keys."""

    def remove(self, key: str) -> None:
        """Remove a file, or every file below a prefix; nothing happens if there is none."""


def limit_chunks(chunks: Iterable[bytes], max_bytes: int | None) -> Iterator[bytes]:
    """Pass chunks on while they fit a limit.

    Raises
    ------
    TooLargeError
        The chunk that exceeds the limit was reached; no later one is read.
    """
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise TooLargeError(text("file-too-large", max_bytes=max_bytes))
        yield chunk
