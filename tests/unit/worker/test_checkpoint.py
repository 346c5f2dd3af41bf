"""Checkpoints: the latest attempt before this one counts, and nothing about them fails a job."""

import logging
from pathlib import Path

import pytest

from shared.files.local import LocalFileStore, checkpoint_key, checkpoint_prefix
from shared.jobs import Lease
from tests.support.disks import fill_disk
from worker.checkpoint import StoredCheckpoint


@pytest.fixture
def storage(tmp_path: Path) -> LocalFileStore:
    return LocalFileStore(f"file://{tmp_path}/files")


def open_checkpoint(storage: LocalFileStore, attempt: int, job_id: str = "a") -> StoredCheckpoint:
    return StoredCheckpoint(storage, Lease(job_id, attempt))


def test_a_later_attempt_loads_what_an_earlier_one_stored_last(storage: LocalFileStore) -> None:
    first = open_checkpoint(storage, 1)
    assert first.load() is None
    first.store(b"half")
    first.store(b"more")
    assert open_checkpoint(storage, 2).load() == b"more"
    assert open_checkpoint(storage, 9).load() == b"more"
    assert open_checkpoint(storage, 2, job_id="b").load() is None


def test_an_attempt_never_loads_its_own_or_a_later_one(storage: LocalFileStore) -> None:
    for attempt in (2, 3):
        open_checkpoint(storage, attempt).store(b"%d" % attempt)
    assert open_checkpoint(storage, 2).load() is None


def test_attempts_count_as_numbers(storage: LocalFileStore) -> None:
    for attempt in (9, 10):
        open_checkpoint(storage, attempt).store(b"%d" % attempt)
    assert open_checkpoint(storage, 11).load() == b"10"


def test_a_stale_attempt_overwrites_nothing(storage: LocalFileStore) -> None:
    stale, fresh = open_checkpoint(storage, 1), open_checkpoint(storage, 2)
    fresh.store(b"fresh")
    stale.store(b"stale")
    assert open_checkpoint(storage, 3).load() == b"fresh"


def test_one_that_cannot_be_read_counts_as_none(storage: LocalFileStore, caplog: pytest.LogCaptureFixture) -> None:
    open_checkpoint(storage, 1).store(b"first")
    storage.locate(checkpoint_key("a", 2)).mkdir()  # the one obstacle that stops root too
    assert open_checkpoint(storage, 3).load() == b"first"
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "attempt 2 is lost" in warning.message


def test_a_full_disk_keeps_the_one_before_and_is_no_error(
    storage: LocalFileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = open_checkpoint(storage, 1)
    checkpoint.store(b"before")
    fill_disk(storage, checkpoint_prefix("a"), monkeypatch)
    checkpoint.store(b"after")
    assert "No space left" in caplog.text
    assert open_checkpoint(storage, 2).load() == b"before"
    assert storage.list_names(checkpoint_prefix("a")) == ["1"]


def test_a_storage_that_is_gone_is_no_error(
    storage: LocalFileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "files").write_bytes(b"a file where the folder should be")
    checkpoint = open_checkpoint(storage, 2)
    checkpoint.store(b"x")
    assert "without a new checkpoint" in caplog.text
    assert checkpoint.load() is None
