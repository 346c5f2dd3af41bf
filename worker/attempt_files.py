"""The artifacts of one attempt of a job."""

import threading
from collections.abc import Sequence

from shared.files.file_store import FileStore
from shared.files.keys import artifact_key
from shared.jobs import Lease, StoredFile


class AttemptFiles:
    """Stores the artifacts of one attempt, and makes them durable in groups before they are recorded.

    Files are saved by the thread that runs the engine. They are made durable in that thread at the end
    of the attempt, and in another thread for the heartbeats.
    """

    def __init__(self, store: FileStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._files: list[StoredFile] = []
        self._durable_count = 0
        self._syncing = threading.Lock()
        self._sync_error: OSError | None = None

    def save(self, name: str, media_type: str, content: bytes) -> None:
        """Store an artifact (see ``worker.engines.interface.SaveArtifact``); the next `sync` makes it durable."""
        if any(file.name == name for file in self._files):
            raise ValueError(f"the engine saved {name!r} twice")
        key = artifact_key(self._lease.job_id, self._lease.attempt, name)
        stored = self._store.put(key, [content], durable=False)
        self._files.append(StoredFile(name, stored.key, media_type, stored.bytes, stored.sha256))

    def sync(self) -> None:
        """Make every file that has been saved durable.

        Raises
        ------
        OSError
            A file could not be made durable, now or in an earlier call. The operating system reports a failed write
            only once, so every later call raises the same error.
        """
        with self._syncing:
            if self._sync_error is not None:
                raise self._sync_error
            pending = self._files[self._durable_count :]
            if not pending:
                return
            try:
                self._store.sync(file.key for file in pending)
            except OSError as error:
                self._sync_error = error
                raise
            self._durable_count += len(pending)

    def has_pending(self) -> bool:
        """Return whether some files have been saved, but are not durable yet."""
        return self._durable_count < len(self._files)

    @property
    def durable(self) -> Sequence[StoredFile]:
        """The files that are durable, in the order in which they were saved."""
        return tuple(self._files[: self._durable_count])
