"""The models that this service has downloaded into Hugging Face's cache, and the limit of their total size.

The cache also contains what other programs of the same user have downloaded. So a *record* marks each model that this
service has downloaded: a file in the folder of the model. Models without a record are neither counted nor deleted.

- The content of the record is the size of the complete model.
- The time of the record's last change is the time of the model's last use.
- A process holds a shared lock on the record while it downloads the model, or has loaded it. Only a process that gets
  the exclusive lock may delete the model. The system releases the locks of a process that is killed.
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from shared.errors import JobFailedError
from shared.texts import text

RECORD: Final = ".mindjobs.json"
LOCK: Final = ".locks/mindjobs.lock"
"""The file that a process locks while it makes room; Hugging Face's tools expect only models outside of ``.locks``."""
REMOVED: Final = ".mindjobs-removed-"
"""The prefix of the folders of models that are being deleted."""


@dataclass(frozen=True)
class DownloadLimits:
    """The limits of a download.

    Parameters
    ----------
    max_model_bytes
        The maximum size of the model.
    max_cache_bytes
        The maximum size of all models together that this service has downloaded.
    keep
        The names of the models that must not be deleted to make room.
    """

    max_model_bytes: int
    max_cache_bytes: int
    keep: tuple[str, ...] = ()

    def serialize(self) -> str:
        """Return the limits as JSON, for the arguments of the process."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class DownloadedModel:
    """A model that this service has downloaded, or has begun to download.

    Parameters
    ----------
    bytes
        The size of the complete model, or the size of its files if that is larger.
    used_at
        When the model was used last, in seconds since 1970.
    """

    name: str
    folder: Path
    bytes: int
    used_at: float

    @classmethod
    def read(cls, record: Path) -> "DownloadedModel":
        """Read the record of a model."""
        folder = record.parent
        try:
            stated = int(json.loads(record.read_text())["bytes"])
        except (ValueError, KeyError, TypeError):  # a record that is damaged still marks the model
            stated = 0
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path != record]
        stored = sum(path.stat().st_size for path in files)
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        return cls(name, folder, max(stated, stored), record.stat().st_mtime)

    def delete(self) -> bool:
        """Delete the model, unless a process holds it.

        Returns
        -------
        Whether the model was deleted.
        """
        with (self.folder / RECORD).open("rb") as record:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            # Once the folder is renamed, no process finds a part of the model.
            removed = self.folder.with_name(f"{REMOVED}{secrets.token_hex(8)}")
            self.folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        return True


def find_folder(cache: Path, name: str) -> Path:
    """Return the folder of a model in Hugging Face's cache, which may not exist."""
    return cache / f"models--{name.replace('/', '--')}"


def list_downloaded(cache: Path) -> list[DownloadedModel]:
    """List the models that this service has downloaded, the least recently used first."""
    models = []
    for record in cache.glob(f"models--*/{RECORD}"):
        with suppress(FileNotFoundError):  # another process has just deleted the model
            models.append(DownloadedModel.read(record))
    return sorted(models, key=lambda model: model.used_at)


@contextmanager
def reserve_room(
    cache: Path, name: str, total_bytes: int, missing_bytes: int, limits: DownloadLimits
) -> Iterator[None]:
    """Make room for a model, and keep every process from deleting the model while the block runs.

    The least recently used models are deleted until the model fits. The record of the model is written before its first
    file, so the sizes of models whose download has just begun are counted.

    If the cache already contains files of the model without a record, another program has downloaded them. Then no
    record is written, so the model is never deleted.

    Parameters
    ----------
    total_bytes, missing_bytes
        The size of the complete model, and how much of it is missing.

    Raises
    ------
    JobFailedError
        The model does not fit.
    """
    (cache / LOCK).parent.mkdir(parents=True, exist_ok=True)
    folder = find_folder(cache, name)
    with ExitStack() as holds:
        with (cache / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _make_room(cache, name, total_bytes, missing_bytes, limits)
            if not (folder / "blobs").exists() or (folder / RECORD).exists():
                folder.mkdir(exist_ok=True)
                (folder / RECORD).write_text(json.dumps({"bytes": total_bytes}))
            holds.enter_context(hold_model(folder / "snapshots" / "any"))
        yield


def _make_room(cache: Path, name: str, total_bytes: int, missing_bytes: int, limits: DownloadLimits) -> None:
    for removed in cache.glob(f"{REMOVED}*"):  # a process was killed while it deleted this folder
        shutil.rmtree(removed, ignore_errors=True)
    others = [model for model in list_downloaded(cache) if model.name != name]
    used_bytes = sum(model.bytes for model in others)
    kept_bytes = sum(model.bytes for model in others if model.name in limits.keep)
    for model in others if kept_bytes + total_bytes <= limits.max_cache_bytes else ():
        if used_bytes + total_bytes <= limits.max_cache_bytes and missing_bytes <= shutil.disk_usage(cache).free:
            break
        if model.name not in limits.keep and model.delete():
            used_bytes -= model.bytes
    if used_bytes + total_bytes > limits.max_cache_bytes:
        sizes = {"size_gb": total_bytes / 1e9, "max_gb": limits.max_cache_bytes / 1e9}
        raise JobFailedError("model-cache-full", text("model-cache-full", model=name, **sizes))
    free_bytes = shutil.disk_usage(cache).free
    if missing_bytes > free_bytes:
        sizes = {"missing_gb": missing_bytes / 1e9, "free_gb": free_bytes / 1e9}
        raise JobFailedError("disk-full", text("download-too-large", model=name, cache=str(cache), **sizes))


def mark_used(folder: Path) -> None:
    """Record that a model is used now.

    Parameters
    ----------
    folder
        The folder of the model's files, in the cache or elsewhere.
    """
    with suppress(OSError):  # there is no record, or this process may not change it
        os.utime(_find_record(folder))


@contextmanager
def hold_model(folder: Path) -> Iterator[None]:
    """Keep every process from deleting a model while the block runs.

    The model may have been deleted before the block: the caller must check that the folder exists.

    Parameters
    ----------
    folder
        The folder of the model's files, in the cache or elsewhere. Only models with a record can be deleted, so nothing
        is done for a model without one.
    """
    try:
        record = _find_record(folder).open("rb")
    except OSError:
        yield
        return
    with record:
        fcntl.flock(record, fcntl.LOCK_SH)
        yield


def _find_record(folder: Path) -> Path:
    """Return the path of a model's record: the folder of the files is ``snapshots/COMMIT`` in the model's folder."""
    return folder.parents[1] / RECORD
