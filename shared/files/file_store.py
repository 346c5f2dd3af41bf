"""The file store: uploads, artifacts and checkpoints, each stored whole or not at all.

Callers use keys (`shared.files.keys`) and never paths. A crash may leave files behind that are unfinished or that no
row records; the sweeper removes these files. Checkpoints have no rows either, but the sweeper recognises checkpoints by
the prefix of their keys, and removes the checkpoints of a job only when the job has ended.
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
        The size of the file.
    written_at
        The time when the file was written, in UTC, by the clock of the store.
    """

    key: str
    bytes: int
    written_at: datetime


@dataclass(frozen=True)
class LocalFile:
    """A source of a download: a file that this process can read from the path."""

    path: Path


@dataclass(frozen=True)
class SignedAddress:
    """A source of a download: an address that is valid for a short time."""

    url: str


DownloadSource = LocalFile | SignedAddress
"""The source from which the content of a file can be sent to a client."""


class FileStore(Protocol):
    """Stores files, each with a key, for every process of an instance.

    A key is either the key of a file or a prefix of other keys, never both.
    """

    def put(
        self, key: str, chunks: Iterable[bytes], *, durable: bool = True, max_bytes: int | None = None
    ) -> StoredBytes:
        """Store a file; it replaces an earlier file with the same key.

        Readers find the earlier file until the new file is complete.

        Parameters
        ----------
        chunks
            The content.
        durable
            Whether the file survives a crash of the machine after this method has returned. If false, a later call of
            `sync` makes the file durable.
        max_bytes
            The maximum size. If the content is longer, reading stops at once, and nothing is stored.

        Raises
        ------
        TooLargeError
            The content is longer than ``max_bytes``.
        """

    def free_bytes(self) -> int | None:
        """Return how many bytes can still be stored; ``None`` if there is no limit that the store knows."""

    def sync(self, keys: Iterable[str]) -> None:
        """Make several files that were stored with ``durable=False`` durable together."""

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading; the stream can seek.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """

    def stat(self, key: str) -> FileInfo | None:
        """Return the size of a file and the time when it was written, or ``None`` if there is no such file."""

    def download_source(self, key: str) -> DownloadSource:
        """Return the source from which a file can be sent to a client.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """

    def local_copy(self, key: str) -> AbstractContextManager[Path]:
        """Provide a file on this machine until the ``with`` block ends, for libraries that can only read from a path.

        The file at this path must not be changed, since it may be the stored file itself.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """List every file below a prefix, sorted by key, including files that interrupted writes left behind."""

    def remove(self, key: str) -> None:
        """Remove a file, or every file below a prefix; do nothing if there is no such file."""


def limit_chunks(chunks: Iterable[bytes], max_bytes: int | None) -> Iterator[bytes]:
    """Yield chunks while their total size is within a limit.

    Raises
    ------
    TooLargeError
        The total size exceeds the limit; no further chunk is read.
    """
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise TooLargeError(text("file-too-large", max_bytes=max_bytes))
        yield chunk
