"""A file store in memory: the second implementation on which the contract of `FileStore` is tested."""

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from shared.files.file_store import FileInfo, SignedAddress, StoredBytes, limit_chunks


class MemoryFileStore:
    """Implements `FileStore` like an object store: downloads come from signed addresses, and no folders exist."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, datetime]] = {}

    def put(
        self, key: str, chunks: Iterable[bytes], *, durable: bool = True, max_bytes: int | None = None
    ) -> StoredBytes:
        del durable  # no file in memory survives a crash
        content = b"".join(limit_chunks(chunks, max_bytes))
        self._files[key] = (content, datetime.now(UTC))
        return StoredBytes(key, len(content), hashlib.sha256(content).hexdigest())

    def free_bytes(self) -> None:
        """Return no number, because the store has no limit."""

    def sync(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._find(key)

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self._find(key))

    def stat(self, key: str) -> FileInfo | None:
        if key not in self._files:
            return None
        content, written_at = self._files[key]
        return FileInfo(key, len(content), written_at)

    def download_source(self, key: str) -> SignedAddress:
        return SignedAddress(f"https://files.example/{key}?bytes={len(self._find(key))}")

    @contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(self._find(key))
            copy.flush()
            yield Path(copy.name)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        for key in sorted(self._files):
            if key.startswith(f"{prefix}/"):
                content, written_at = self._files[key]
                yield FileInfo(key, len(content), written_at)

    def remove(self, key: str) -> None:
        for stored in [*self._files]:
            if stored == key or stored.startswith(f"{key}/"):
                del self._files[stored]

    def _find(self, key: str) -> bytes:
        if key not in self._files:
            raise FileNotFoundError(key)
        return self._files[key][0]
