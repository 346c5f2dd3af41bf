"""The guarantees of the local file store that are not in the contract: durability, and errors if the disk is full."""

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.files.local import LocalFileStore
from shared.files.registry import open_file_store
from tests.support.disks import fill_disk, list_keys, path_on_disk, record_syncs


@pytest.fixture
def files(tmp_path: Path) -> LocalFileStore:
    return LocalFileStore(tmp_path / "files")


def test_put_syncs_the_file_and_its_folders(files: LocalFileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = record_syncs(monkeypatch)
    file = path_on_disk(files, files.put("jobs/a/1/x.txt", [b"ab"]).key)
    assert synced[-2].name.startswith(".")  # the file was synced under its temporary name, before it was renamed
    assert synced[-1] == file.parent
    assert {files.root, files.root / "jobs", files.root / "jobs" / "a"} <= set(synced)


def test_sync_makes_files_durable_that_were_put_without_durability(
    files: LocalFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_syncs(monkeypatch)
    stored = [files.put(f"jobs/a/1/{name}.txt", [b"ab", b"c"], durable=False) for name in "xy"]
    assert synced == []
    files.sync(file.key for file in stored)
    paths = [path_on_disk(files, file.key) for file in stored]
    assert synced == [*paths, *[folder for folder in paths[0].parents if folder.is_relative_to(files.root)]]


@pytest.mark.parametrize("size", [1, 2**20])
def test_full_disk_raises_an_error_and_keeps_the_earlier_file(
    files: LocalFileStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    files.put("jobs/a/1/x.txt", [b"before"])
    fill_disk(files, "jobs/a/1", monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        files.put("jobs/a/1/x.txt", [b"x" * size])
    assert list_keys(files, "jobs") == ["jobs/a/1/x.txt"]
    assert path_on_disk(files, "jobs/a/1/x.txt").read_bytes() == b"before"


def test_list_includes_the_temporary_file_of_an_interrupted_put(files: LocalFileStore) -> None:
    files.put("uploads/a", [b"abc"])
    path_on_disk(files, "uploads/.part-1").write_bytes(b"half")
    assert list_keys(files, "uploads") == ["uploads/.part-1", "uploads/a"]


def test_file_address_opens_a_local_store(tmp_path: Path) -> None:
    files = open_file_store(f"file://{tmp_path}/a%20b")
    assert isinstance(files, LocalFileStore)
    assert files.root == tmp_path / "a b"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("s3://bucket/x", "storage-scheme-unknown"),
        ("/x", "storage-scheme-unknown"),
        ("file://host/x", "storage-folder-invalid"),
        ("file:", "storage-folder-invalid"),
    ],
)
def test_invalid_address_of_a_store_is_refused(url: str, code: str) -> None:
    with pytest.raises(SettingsError, match="MINDJOBS_STORAGE_URL") as caught:
        open_file_store(url)
    assert caught.value.text.code == code
