"""Builds the archive of a job's files while it is sent: neither memory nor the disk ever contains the whole archive."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from shared.files.file_store import FileStore

BLOCK_BYTES: Final = 2**18
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that an archive can state."""
_READABLE: Final = 0o100644 << 16
"""The permissions of an ordinary file, which unpacking programs on Linux and macOS set."""


@dataclass(frozen=True)
class StoredEntry:
    """A file of the store in an archive.

    Parameters
    ----------
    name
        The name in the archive.
    """

    name: str
    key: str
    bytes: int


def stream_archive(
    files: FileStore, given: tuple[str, bytes], entries: Sequence[StoredEntry], written_at: datetime
) -> Iterator[bytes]:
    """Yield the parts of a zip archive. The files are not compressed: music and pictures are compressed already.

    Parameters
    ----------
    given
        The name and the content of the first file.
    written_at
        The time that the archive states for each file.

    Raises
    ------
    FileNotFoundError
        A file does not exist any more.
    """
    sink = _Sink()
    time = max(written_at.timetuple()[:6], _EARLIEST)
    with ZipFile(sink, "w", ZIP_STORED) as archive:
        with archive.open(_describe(given[0], len(given[1]), time), "w") as entry:
            entry.write(given[1])
        for file in entries:
            with (
                closing(files.open(file.key)) as source,
                archive.open(_describe(file.name, file.bytes, time), "w") as entry,
            ):
                yield from _copy(source, entry, sink)
    yield sink.take()


def _describe(name: str, size_bytes: int, time: tuple[int, ...]) -> ZipInfo:
    info = ZipInfo(name)
    info.date_time = (time[0], time[1], time[2], time[3], time[4], time[5])
    info.file_size = size_bytes  # so that a large file gets the fields of 64 bits that it needs
    info.external_attr = _READABLE
    return info


def _copy(source: IO[bytes], entry: IO[bytes], sink: "_Sink") -> Iterator[bytes]:
    while block := source.read(BLOCK_BYTES):
        entry.write(block)
        yield sink.take()


class _Sink(io.RawIOBase):
    """Keeps what was written until it is taken. It cannot seek, so the archive is written from start to end."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Return ``True``."""
        return True

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Append bytes."""
        self._parts.append(bytes(content))
        return len(content)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
