"""An attempt loads the checkpoint of the latest earlier attempt, and no problem with a checkpoint fails a job."""

import logging
from pathlib import Path

import pytest

from shared.files.file_store import FileStore
from shared.files.keys import checkpoint_key, checkpoint_prefix
from shared.files.local import LocalFileStore
from shared.jobs import Lease
from tests.support.disks import fill_disk, list_keys, path_on_disk
from worker.checkpoint import StoredCheckpoint


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return LocalFileStore(tmp_path / "files")


def open_checkpoint(files: FileStore, attempt: int, job_id: str = "a") -> StoredCheckpoint:
    return StoredCheckpoint(files, Lease(job_id, attempt))


def test_a_later_attempt_loads_the_last_checkpoint_of_an_earlier_attempt(files: FileStore) -> None:
    first = open_checkpoint(files, 1)
    assert first.load() is None
    first.store(b"half")
    first.store(b"more")
    assert open_checkpoint(files, 2).load() == b"more"
    assert open_checkpoint(files, 9).load() == b"more"
    assert open_checkpoint(files, 2, job_id="b").load() is None


def test_an_attempt_loads_neither_its_own_checkpoint_nor_one_of_a_later_attempt(files: FileStore) -> None:
    for attempt in (2, 3):
        open_checkpoint(files, attempt).store(b"%d" % attempt)
    assert open_checkpoint(files, 2).load() is None


def test_attempts_are_ordered_by_number_and_not_as_text(files: FileStore) -> None:
    for attempt in (9, 10):
        open_checkpoint(files, attempt).store(b"%d" % attempt)
    assert open_checkpoint(files, 11).load() == b"10"


def test_an_attempt_that_lost_its_lease_does_not_overwrite_the_checkpoint_of_a_later_attempt(files: FileStore) -> None:
    stale, fresh = open_checkpoint(files, 1), open_checkpoint(files, 2)
    fresh.store(b"fresh")
    stale.store(b"stale")
    assert open_checkpoint(files, 3).load() == b"fresh"


def test_a_checkpoint_that_cannot_be_read_is_skipped_with_a_warning(
    files: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    open_checkpoint(files, 1).store(b"first")
    # A folder takes the place of the file: even root, which can read any file, cannot read a folder as a file.
    path_on_disk(files, checkpoint_key("a", 2)).mkdir()
    assert open_checkpoint(files, 3).load() == b"first"
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "attempt 2 cannot be read" in warning.message


def test_an_attempt_on_a_full_disk_keeps_its_earlier_checkpoint_and_raises_no_error(
    files: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = open_checkpoint(files, 1)
    checkpoint.store(b"before")
    fill_disk(files, checkpoint_prefix("a"), monkeypatch)
    checkpoint.store(b"after")
    assert "No space left" in caplog.text
    assert open_checkpoint(files, 2).load() == b"before"
    assert list_keys(files, checkpoint_prefix("a")) == [checkpoint_key("a", 1)]


def test_a_missing_folder_of_the_file_store_raises_no_error(
    files: FileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "files").write_bytes(b"a file in place of the folder")
    checkpoint = open_checkpoint(files, 2)
    checkpoint.store(b"x")
    assert "without a new checkpoint" in caplog.text
    assert checkpoint.load() is None
