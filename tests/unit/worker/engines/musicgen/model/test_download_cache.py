"""Downloaded models are deleted if a further model needs their room: the least recently used ones, and no others."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from huggingface_hub import constants

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import find_model
from shared.settings import Settings
from tests.support.fake_hub import FakeHub
from worker.engines.musicgen.model import download_cache
from worker.engines.musicgen.model.download_cache import (
    RECORD,
    DownloadLimits,
    find_folder,
    hold_model,
    list_downloaded,
    mark_used,
    reserve_room,
)
from worker.engines.musicgen.model.model_folder import download, fetch

MB: Final = 2**20
SIZE: Final = 100
"""The size of each model that these tests write to the cache."""

Write = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def write(cache: Path) -> Write:
    """Return a function that writes a model to the cache, used later than those before; it returns the snapshot."""
    times = iter(range(1_000, 2_000))

    def write_model(name: str, *, recorded: bool = True) -> Path:
        folder = find_folder(cache, name)
        snapshot = folder / "snapshots" / "commit"
        snapshot.mkdir(parents=True)
        (folder / "blobs").mkdir()
        (folder / "blobs" / "tag").write_bytes(bytes(SIZE))
        (snapshot / "model.safetensors").symlink_to("../../blobs/tag")
        if recorded:
            (folder / RECORD).write_text(json.dumps({"bytes": SIZE}))
            os.utime(folder / RECORD, (used_at := next(times), used_at))
        return snapshot

    return write_model


def reserve(cache: Path, name: str = "new/model", *, room_for: int = 2, keep: tuple[str, ...] = ()) -> None:
    """Make room for a model in a cache for ``room_for`` models."""
    with reserve_room(cache, name, SIZE, SIZE, DownloadLimits(SIZE, room_for * SIZE, keep)):
        assert find_folder(cache, name).is_dir()


def list_models(cache: Path) -> list[str]:
    return sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))


def test_only_as_many_models_are_deleted_as_needed_and_the_least_recently_used_first(cache: Path, write: Write) -> None:
    snapshots = [write(f"a/{name}") for name in ("first", "second", "third")]
    mark_used(snapshots[0])
    reserve(cache, room_for=3)
    assert list_models(cache) == ["a/first", "a/third", "new/model"]
    reserve(cache, "new/other", room_for=3)
    assert list_models(cache) == ["a/first", "new/model", "new/other"]
    assert [model.name for model in list_downloaded(cache)] == ["a/first", "new/model", "new/other"]


def test_models_that_are_wanted_or_held_are_not_deleted(cache: Path, write: Write) -> None:
    write("a/wanted")
    held = write("a/held")
    write("a/unused")
    with hold_model(held):
        reserve(cache, room_for=3, keep=("a/wanted",))
        assert list_models(cache) == ["a/held", "a/wanted", "new/model"]
        with pytest.raises(JobFailedError) as caught:
            reserve(cache, "new/other", keep=("a/wanted", "new/model"))
        assert caught.value.type == "model-cache-full"
        assert "MINDJOBS_MAX_MODEL_CACHE_MB" in caught.value.detail
    assert list_models(cache) == ["a/held", "a/wanted", "new/model"]
    reserve(cache, "new/other", room_for=3, keep=("a/wanted", "new/model"))
    assert list_models(cache) == ["a/wanted", "new/model", "new/other"]


def test_models_of_other_programs_are_neither_counted_nor_deleted(cache: Path, write: Write) -> None:
    write("other/model", recorded=False)
    write("other/begun", recorded=False)
    reserve(cache, room_for=1)
    reserve(cache, "other/begun", room_for=2)
    reserve(cache, "new/second", room_for=1)
    assert list_models(cache) == ["new/second", "other/begun", "other/model"]


def test_a_model_is_not_deleted_while_it_is_downloaded(cache: Path) -> None:
    limits = DownloadLimits(SIZE, SIZE)
    with (
        reserve_room(cache, "new/model", SIZE, SIZE, limits),
        pytest.raises(JobFailedError),
        reserve_room(cache, "new/other", SIZE, SIZE, limits),
    ):
        pass
    reserve(cache, "new/other", room_for=1)
    assert list_models(cache) == ["new/other"]


def test_models_are_deleted_if_the_disk_has_too_little_space(
    cache: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        @property
        def free(self) -> int:
            return SIZE // 2 * (3 - len(list_models(cache)))

    write("a/first")
    write("a/second")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    reserve(cache, room_for=100)
    assert list_models(cache) == ["a/second", "new/model"]


def test_a_deletion_that_was_interrupted_is_completed(cache: Path) -> None:
    (cache / f"{download_cache.REMOVED}1" / "blobs").mkdir(parents=True)
    reserve(cache)
    assert list_models(cache) == ["new/model"]
    assert not [*cache.glob(f"{download_cache.REMOVED}*")]


def test_a_damaged_record_still_marks_the_model(cache: Path, write: Write) -> None:
    (write("a/first").parents[1] / RECORD).write_text("{")
    assert [model.bytes for model in list_downloaded(cache)] == [SIZE]
    reserve(cache, room_for=1)
    assert list_models(cache) == ["new/model"]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with models of 3 MB."""
    with FakeHub() as hub:
        files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": bytes(3 * MB)}
        hub.models.update({f"some/{name}": files for name in ("first", "second", "third")})
        yield hub


@pytest.fixture
def settings(tmp_path: Path, hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an instance whose cache has room for two models of the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return Settings(home=tmp_path / "home", models_allowed="some/*", max_model_cache_mb=7)


def ignore(*, stage: str, done: int, total: int, unit: str) -> None:
    """Ignore the progress."""


def test_the_model_of_the_least_recent_job_is_deleted(settings: Settings) -> None:
    fetch(settings, "some/first", ignore)
    fetch(settings, "some/second", ignore)
    fetch(settings, "some/first", ignore)
    assert find_model(settings, "some/second") is not None
    fetch(settings, "some/third", ignore)
    assert find_model(settings, "some/second") is None
    assert find_model(settings, "some/first") is not None
    download(settings, "some/second", ["some/first"], ignore)
    assert find_model(settings, "some/third") is None
    assert find_model(settings, "some/first") is not None
