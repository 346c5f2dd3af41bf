import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import SettingsError, TooLargeError
from shared.files.local import LocalFileStore
from tests.support.disks import fill_disk, note_syncs


@pytest.fixture
def storage(tmp_path: Path) -> LocalFileStore:
    return LocalFileStore(f"file://{tmp_path}/files")


def list_files(storage: LocalFileStore) -> list[str]:
    return [str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file()]


def test_a_file_is_written_whole_with_its_hash(storage: LocalFileStore) -> None:
    written = storage.write("jobs/a/1/x.txt", [b"ab", b"c"])
    assert storage.locate(written.path).read_bytes() == b"abc"
    assert (written.bytes, written.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert list_files(storage) == ["jobs/a/1/x.txt"]


def test_a_written_file_outlasts_a_crash(storage: LocalFileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = note_syncs(monkeypatch)
    file = storage.locate(storage.write("jobs/a/1/x.txt", [b"ab"]).path)
    assert synced[-2].name.startswith(".")  # under the name that it has until it is whole
    assert synced[-1] == file.parent
    assert {storage.root, storage.root / "jobs", storage.root / "jobs" / "a"} <= set(synced)


def test_placed_files_outlast_a_crash_once_they_are_settled(
    storage: LocalFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = note_syncs(monkeypatch)
    written = [storage.place(f"jobs/a/1/{name}.txt", [b"ab", b"c"]) for name in "xy"]
    assert synced == []
    assert (written[0].bytes, written[0].sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    storage.settle(file.path for file in written)
    files = [storage.locate(file.path) for file in written]
    assert synced == [*files, *[folder for folder in files[0].parents if folder.is_relative_to(storage.root)]]


def test_a_write_that_breaks_off_leaves_nothing(storage: LocalFileStore) -> None:
    def break_off() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        storage.write("jobs/a/1/x.txt", break_off())
    assert list_files(storage) == []


@pytest.mark.parametrize("size", [1, 2**20])
def test_a_full_disk_leaves_what_was_there(storage: LocalFileStore, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    storage.write("jobs/a/1/x.txt", [b"before"])
    fill_disk(storage, "jobs/a/1", monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        storage.write("jobs/a/1/x.txt", [b"x" * size])
    assert list_files(storage) == ["jobs/a/1/x.txt"]
    assert storage.locate("jobs/a/1/x.txt").read_bytes() == b"before"


def test_names_are_listed_in_order_and_none_where_there_is_no_folder(storage: LocalFileStore) -> None:
    assert storage.list_names("checkpoints") == []
    for name in ("b", "a"):
        storage.write(f"checkpoints/{name}/1", [b"x"])
    assert storage.list_names("checkpoints") == ["a", "b"]


def test_a_file_over_the_limit_leaves_nothing_and_is_not_read_further(storage: LocalFileStore) -> None:
    read = []

    def chunks() -> Iterator[bytes]:
        for number in range(10):
            read.append(number)
            yield b"x" * 10

    with pytest.raises(TooLargeError, match="25 bytes"):
        storage.write("uploads/a", chunks(), max_bytes=25)
    assert list_files(storage) == []
    assert read == [0, 1, 2]


def test_removing_is_done_once_or_twice(storage: LocalFileStore) -> None:
    storage.write("jobs/a/1/x.txt", [b"a"])
    for _ in range(2):
        storage.remove("jobs/a")
    assert list_files(storage) == []


@pytest.mark.parametrize("url", ["s3://bucket/x", "file://host/x", "/x", "file:"])
def test_other_storages_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="MINDJOBS_STORAGE_URL"):
        LocalFileStore(url)
