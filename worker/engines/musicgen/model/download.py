"""Downloads a model from the Hugging Face hub, in a process of its own that `model_folder` starts, watches and ends.

The calls of the library huggingface_hub wait and retry for minutes and cannot be stopped. A
process can be stopped at any moment, and the next process continues the download from the
files that the stopped process has written.

Nothing is downloaded of a model that is larger than allowed. No file becomes larger than the hub has stated, since the
system refuses to write more (``RLIMIT_FSIZE``): a hub that states wrong sizes cannot fill the disk.

The process prints a line of JSON several times per second: how many bytes are downloaded. If
the download fails, the last line contains the error.
"""

import errno
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import requests
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from shared.background import Background
from shared.errors import JobFailedError, is_disk_full
from shared.kinds.musicgen.catalogue import CONFIGURATION, GENERATION, README, TINY, TOKENIZER, WEIGHTS, WEIGHTS_INDEX
from shared.texts import Text, Value, text
from worker.engines.musicgen.model.configuration import unusable_model
from worker.engines.musicgen.model.download_cache import DownloadLimits, find_folder, reserve_room
from worker.engines.musicgen.model.pickles import PICKLES, pickles_refused

NEEDED: Final = (CONFIGURATION, TOKENIZER)
WANTED: Final = (
    README,  # contains the licence
    GENERATION,
    "preprocessor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer*.json",
)
SHARDS: Final = "model-*-of-*.safetensors"

REPORT_INTERVAL_S: Final = 0.3
TIMEOUT_S: Final = 10.0
# The download of a file fails after this number of consecutive connections that broke before they delivered anything.
MAX_FAILURES: Final = 3
PAUSE_S: Final = 0.5
# The library's default chunk of 10 MiB takes a minute on a slow line, and is lost if the connection breaks.
CHUNK_BYTES: Final = 2**18


@dataclass(frozen=True)
class File:
    """A file to download; in the cache, the name of the file is ``tag``. ``bytes`` is 0 if its size is not known."""

    name: str
    bytes: int
    tag: str


class Download:
    """The download of one model into Hugging Face's cache.

    Parameters
    ----------
    name
        The name of the model.
    cache
        The folder of the cache.
    limits
        How large the model and the cache may become.
    """

    def __init__(self, name: str, cache: Path, limits: DownloadLimits) -> None:
        self._name = name
        self._cache = cache
        self._limits = limits
        self._folder = find_folder(cache, name)
        self._commit = ""
        self._files: list[File] = []

    @property
    def total(self) -> int:
        """The size of the model in bytes; 0 while the size is unknown."""
        return sum(file.bytes for file in self._files)

    def count_done(self) -> int:
        """Count the bytes that are already downloaded."""
        return sum(self._count(file) for file in self._files)

    def run(self) -> None:
        """Download what is missing.

        Raises
        ------
        JobFailedError
            The download failed.
        """
        try:
            info = HfApi().model_info(self._name, files_metadata=True, timeout=TIMEOUT_S)
            self._files = list(_select(self._name, info))
            self._commit = info.sha or ""
            self._require_allowed_size()
            missing_bytes = self.total - self.count_done()
            with reserve_room(self._cache, self._name, self.total, missing_bytes, self._limits):
                for file in self._files:
                    self._download(file)
        except (OSError, HFValidationError) as error:  # all other errors of the library and of requests are OSErrors
            raise explain(error, self._name, self._cache) from error

    def _download(self, file: File) -> None:
        if self._partial(file).is_file() and self._partial(file).stat().st_size > file.bytes:
            self._partial(file).unlink()  # otherwise the library would request bytes after the end, in an endless loop
        failures = 0
        while True:
            before = self._count(file)
            try:
                with _limited_file_size(self._get_max_bytes(file)):
                    hf_hub_download(self._name, file.name, revision=self._commit, cache_dir=self._cache)
            except requests.exceptions.ChunkedEncodingError:  # the library does not continue after this error
                failures = failures + 1 if self._count(file) <= before else 0
                if failures == MAX_FAILURES:
                    raise
                time.sleep(PAUSE_S)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                self._partial(file).unlink(missing_ok=True)
                raise self._describe_excess(file) from error
            else:
                return

    def _get_max_bytes(self, file: File) -> int:
        """Return the size of a file, or what the other files leave of the limit if the size is not known."""
        return file.bytes or self._limits.max_model_bytes - self.total

    def _describe_excess(self, file: File) -> JobFailedError:
        values = {"model": self._name, "hub": constants.ENDPOINT, "file": file.name}
        max_bytes = self._get_max_bytes(file)
        return JobFailedError("model-unavailable", text("hub-sent-too-much", bytes=max_bytes, **values))

    def _require_allowed_size(self) -> None:
        max_bytes = self._limits.max_model_bytes
        if self.total > max_bytes:
            sizes = {"size_gb": self.total / 1e9, "max_gb": max_bytes / 1e9}
            raise JobFailedError("model-too-large", text("model-too-large", model=self._name, **sizes))

    def _count(self, file: File) -> int:
        if (self._folder / "snapshots" / self._commit / file.name).exists():
            return file.bytes
        try:
            return min(file.bytes, self._partial(file).stat().st_size)
        except OSError:
            return 0

    def _partial(self, file: File) -> Path:
        return self._folder / "blobs" / f"{file.tag}.incomplete"


@contextmanager
def _limited_file_size(max_bytes: int) -> Iterator[None]:
    """Let the system refuse to make any file of this process larger than ``max_bytes`` while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _select(name: str, info: ModelInfo) -> Iterator[File]:
    """Choose the files to download; the weights come last, so that an incomplete model never looks complete."""
    found = {sibling.rfilename: sibling for sibling in info.siblings or [] if "/" not in sibling.rfilename}
    weights = [WEIGHTS] if WEIGHTS in found else sorted(file for file in found if fnmatchcase(file, SHARDS))
    if not weights or (weights != [WEIGHTS] and WEIGHTS_INDEX not in found):
        pickles = [file for file in found if any(fnmatchcase(file, pattern) for pattern in PICKLES)]
        if pickles:
            raise pickles_refused(name, pickles)
        raise unusable_model(text("model-not-musicgen", model=name, file=WEIGHTS))
    for needed in NEEDED:
        if needed not in found:
            raise unusable_model(text("model-not-musicgen", model=name, file=needed))
    wanted = [*NEEDED, *WANTED] if weights == [WEIGHTS] else [*NEEDED, *WANTED, WEIGHTS_INDEX]
    small = [file for file in found if any(fnmatchcase(file, pattern) for pattern in wanted)]
    for file in [*sorted(small), *weights]:
        yield File(file, max(found[file].size or 0, 0), _find_tag(found[file]))


def _find_tag(sibling: RepoSibling) -> str:
    return (sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id) or ""


def explain(error: Exception, name: str, cache: Path) -> JobFailedError:
    """Convert an error of the library or of the system to the error of the job."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # this error says why the hub was not reached
    if is_disk_full(error):
        return _disk_full(text("download-disk-full", model=name, cache=str(cache)))
    return JobFailedError("model-unavailable", _describe(error, name, cache))


def _describe(error: Exception, name: str, cache: Path) -> Text:
    names: dict[str, Value] = {"model": name, "hub": constants.ENDPOINT, "tiny": TINY}
    match error:
        case OfflineModeIsEnabled():
            return text("hub-offline", **names)
        case HFValidationError():
            return text("hub-name-invalid", model=name)
        case HfHubHTTPError(response=requests.Response() as response):
            return _describe_response(error, response, names)
        case FileMetadataError() | requests.exceptions.InvalidJSONError():
            return text("hub-not-a-hub", **names)
        case requests.RequestException():
            return text("hub-unreachable", error=type(error).__name__, **names)
        case _:
            return text("hub-cache-not-writable", model=name, cache=str(cache), error=str(error))


def _describe_response(error: HfHubHTTPError, response: requests.Response, names: Mapping[str, Value]) -> Text:
    status = response.status_code
    if isinstance(error, GatedRepoError):
        return text("hub-gated", **names)
    if status in {requests.codes.unauthorized, requests.codes.forbidden}:
        return text("hub-forbidden", status=status, **names)
    if status == requests.codes.not_found:
        return text("hub-model-not-found", **names)
    return text("hub-error", status=status, **names)


def _disk_full(reason: Text) -> JobFailedError:
    return JobFailedError("disk-full", reason)


class _ProgressPrinter(Background):
    """Prints the progress of the download; ends this process if the parent process has closed the pipe."""

    def __init__(self, download: Download) -> None:
        super().__init__("progress")
        self._download = download
        self._max_done = 0

    def print_progress(self) -> None:
        """Print one line of progress."""
        # If a server sends a file again from its start, the count falls, but the printed progress must not fall.
        self._max_done = max(self._max_done, self._download.count_done())
        _print({"done": self._max_done, "total": self._download.total})

    def _run(self) -> None:
        while not self._stop_requested.wait(REPORT_INTERVAL_S):
            try:
                self.print_progress()
            except BrokenPipeError:
                os._exit(1)


def main(name: str, cache: str, limits: str) -> None:
    """Download the model and print the progress."""
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    download = Download(name, Path(cache), DownloadLimits(**json.loads(limits)))
    try:
        with _ProgressPrinter(download) as printer:
            download.run()
        printer.print_progress()
    except JobFailedError as error:
        _print({"error": {"type": error.type, "text": error.text.serialize()}})


def _print(message: object) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the parent process reads the line


if __name__ == "__main__":
    main(*sys.argv[1:])
