"""The artifacts of one attempt are made durable in groups, in the order in which they were saved."""

import errno
from collections.abc import Iterable
from pathlib import Path

import pytest

from shared.files.local import LocalFileStore
from shared.jobs import Lease
from worker.attempt_files import AttemptFiles


class RecordingStore(LocalFileStore):
    """Records the keys of each call of `sync`; if ``error`` is set, the next call raises this error."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.synced: list[list[str]] = []
        self.error: OSError | None = None

    def sync(self, keys: Iterable[str]) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.synced.append([*keys])
        super().sync(self.synced[-1])


@pytest.fixture
def store(tmp_path: Path) -> RecordingStore:
    return RecordingStore(tmp_path / "files")


@pytest.fixture
def files(store: RecordingStore) -> AttemptFiles:
    return AttemptFiles(store, Lease("a", 2))


def save(files: AttemptFiles, *names: str) -> None:
    for name in names:
        files.save(name, "text/plain", name.encode())


def test_each_sync_covers_the_files_that_were_saved_since_the_previous_sync(
    store: RecordingStore, files: AttemptFiles
) -> None:
    files.sync()
    assert not files.has_pending()
    save(files, "b.txt", "a.txt")
    assert files.has_pending()
    assert not files.durable
    files.sync()
    save(files, "c.txt")
    assert [file.name for file in files.durable] == ["b.txt", "a.txt"]
    files.sync()
    files.sync()
    assert not files.has_pending()
    assert store.synced == [["jobs/a/2/b.txt", "jobs/a/2/a.txt"], ["jobs/a/2/c.txt"]]
    assert [(file.key, file.media_type, file.bytes) for file in files.durable][-1] == (
        "jobs/a/2/c.txt",
        "text/plain",
        5,
    )


def test_a_failed_sync_raises_its_error_again_at_the_next_sync(store: RecordingStore, files: AttemptFiles) -> None:
    save(files, "a.txt")
    files.sync()
    save(files, "b.txt")
    store.error = OSError(errno.ENOSPC, "No space left on device")
    # `AttemptFiles` repeats the error: the store, like the operating system, reports a failed write only once.
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            files.sync()
    assert [file.name for file in files.durable] == ["a.txt"]


def test_a_second_artifact_with_the_same_name_is_refused(files: AttemptFiles) -> None:
    save(files, "a.txt")
    with pytest.raises(ValueError, match="twice"):
        save(files, "a.txt")
