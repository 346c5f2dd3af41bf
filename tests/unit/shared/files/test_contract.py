"""The contract of `FileStore`; each test runs on every implementation."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.errors import TooLargeError
from shared.files.file_store import FileStore, LocalFile, SignedAddress
from shared.files.local import LocalFileStore
from tests.support.disks import list_keys
from tests.support.memory_files import MemoryFileStore

STORES: dict[str, Callable[[Path], FileStore]] = {
    "local": lambda folder: LocalFileStore(folder / "files"),
    "memory": lambda _: MemoryFileStore(),
}


@pytest.fixture(params=STORES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    return STORES[request.param](tmp_path)


def read(files: FileStore, key: str) -> bytes:
    with files.open(key) as file:
        return file.read()


def test_put_returns_key_size_and_hash(files: FileStore) -> None:
    stored = files.put("jobs/a/1/x.txt", [b"ab", b"c"])
    assert (stored.key, stored.bytes, stored.sha256) == ("jobs/a/1/x.txt", 3, hashlib.sha256(b"abc").hexdigest())
    assert read(files, stored.key) == b"abc"


@pytest.mark.parametrize("durable", [True, False])
def test_put_replaces_the_file_with_the_same_key(files: FileStore, *, durable: bool) -> None:
    files.put("checkpoints/a/1", [b"first"], durable=durable)
    files.put("checkpoints/a/1", [b"second"], durable=durable)
    files.sync(["checkpoints/a/1"])
    assert read(files, "checkpoints/a/1") == b"second"
    assert list_keys(files, "checkpoints") == ["checkpoints/a/1"]


def test_empty_file_is_stored(files: FileStore) -> None:
    assert files.put("uploads/a", []).bytes == 0
    assert read(files, "uploads/a") == b""
    assert list_keys(files, "uploads") == ["uploads/a"]


def test_failed_put_keeps_the_earlier_file_and_stores_no_new_file(files: FileStore) -> None:
    files.put("jobs/a/1/x.txt", [b"before"])

    def fail() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    for key in ("jobs/a/1/x.txt", "jobs/a/1/y.txt"):
        with pytest.raises(ConnectionError):
            files.put(key, fail())
    assert list_keys(files, "jobs") == ["jobs/a/1/x.txt"]
    assert read(files, "jobs/a/1/x.txt") == b"before"


def test_file_over_the_size_limit_is_not_stored_and_not_read_to_its_end(files: FileStore) -> None:
    read_chunks = []

    def chunks() -> Iterator[bytes]:
        for number in range(10):
            read_chunks.append(number)
            yield b"x" * 10

    with pytest.raises(TooLargeError) as caught:
        files.put("uploads/a", chunks(), max_bytes=25)
    assert (caught.value.text.code, caught.value.text.values) == ("file-too-large", {"max_bytes": 25})
    assert list_keys(files, "uploads") == []
    assert read_chunks == [0, 1, 2]
    assert files.put("uploads/a", [b"x" * 25], max_bytes=25).bytes == 25


def test_opened_file_is_seekable(files: FileStore) -> None:
    files.put("uploads/a", [b"0123456789"])
    with files.open("uploads/a") as file:
        assert file.seekable()
        file.seek(7)
        assert file.read() == b"789"


def test_stat_returns_key_size_and_time_of_writing(files: FileStore) -> None:
    files.put("uploads/a", [b"abc"])
    info = files.stat("uploads/a")
    assert info is not None
    assert (info.key, info.bytes) == ("uploads/a", 3)
    assert abs(info.written_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_stat_returns_none_for_a_missing_file_and_for_a_prefix(files: FileStore) -> None:
    files.put("jobs/a/1/x.txt", [b"abc"])
    assert [files.stat(key) for key in ("jobs/a/1/y.txt", "jobs/a", "jobs/a/1/x.txt/1")] == [None, None, None]


def test_download_source_is_a_local_file_or_a_signed_address(files: FileStore) -> None:
    files.put("jobs/a/1/x.txt", [b"abc"])
    match files.download_source("jobs/a/1/x.txt"):
        case LocalFile(path):
            assert path.read_bytes() == b"abc"
        case SignedAddress(url):
            assert url.startswith("https://")


def test_local_copy_has_the_content_of_the_file(files: FileStore) -> None:
    files.put("uploads/a", [b"abc"])
    with files.local_copy("uploads/a") as path:
        assert path.read_bytes() == b"abc"
    assert read(files, "uploads/a") == b"abc"


def test_missing_file_raises_file_not_found_error(files: FileStore) -> None:
    files.put("jobs/a/1/x.txt", [b"abc"])
    for key in ("jobs/a/1/y.txt", "jobs/b", "uploads/a"):
        with pytest.raises(FileNotFoundError):
            files.open(key)
        with pytest.raises(FileNotFoundError):
            files.download_source(key)
        with pytest.raises(FileNotFoundError), files.local_copy(key):
            pass


def test_list_returns_the_files_below_a_prefix_sorted_by_key(files: FileStore) -> None:
    assert list_keys(files, "jobs") == []
    for key in ("jobs/b/1/x.txt", "jobs/a/2/x.txt", "jobs/a/1/y.txt", "jobs/a/1/x.txt", "jobs/ab/1/x.txt", "jobs-x/a"):
        files.put(key, [key.encode()])
    in_a = ["jobs/a/1/x.txt", "jobs/a/1/y.txt", "jobs/a/2/x.txt"]
    assert list_keys(files, "jobs/a") == in_a
    assert list_keys(files, "jobs") == [*in_a, "jobs/ab/1/x.txt", "jobs/b/1/x.txt"]
    assert [(info.bytes, files.stat(info.key)) for info in files.list("jobs/a")] == [
        (len(key), info) for key, info in zip(in_a, files.list("jobs/a"), strict=True)
    ]


def test_remove_deletes_a_file_or_all_files_below_a_prefix(files: FileStore) -> None:
    for key in ("jobs/a/1/x.txt", "jobs/a/1/y.txt", "jobs/a/2/x.txt", "jobs/ab/1/x.txt"):
        files.put(key, [b"abc"])
    files.remove("jobs/a/1/x.txt")
    assert list_keys(files, "jobs/a") == ["jobs/a/1/y.txt", "jobs/a/2/x.txt"]
    files.remove("jobs/a")
    assert list_keys(files, "jobs") == ["jobs/ab/1/x.txt"]


def test_removal_of_a_missing_file_changes_nothing(files: FileStore) -> None:
    files.put("jobs/a/1/x.txt", [b"abc"])
    for key in ("jobs/b", "jobs/a/1/y.txt", "uploads/a"):
        files.remove(key)
    assert list_keys(files, "jobs") == ["jobs/a/1/x.txt"]
