"""Downloads a model from the hub, as a process of its own that ``download`` starts, watches and ends.

The library's calls wait and try again for minutes and cannot be told to stop;
a process can be, at any moment, and what it has written is taken up again.

It prints a line of JSON several times per second: how much is there, and in the
end what went wrong, if something did.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
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
from worker.engines.musicgen.model.configuration import unusable_model
from worker.engines.musicgen.model.weights import PICKLES, pickles_refused

NEEDED: Final = (CONFIGURATION, TOKENIZER)
WANTED: Final = (
    README,  # says the licence
    GENERATION,
    "preprocessor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer*.json",
)
SHARDS: Final = "model-*-of-*.safetensors"

REPORT_INTERVAL_S: Final = 0.3
TIMEOUT_S: Final = 10.0
# After a connection that broke before it brought anything.
TRIES: Final = 3
PAUSE_S: Final = 0.5
# The library's 10 MiB are a minute of a slow line, and lost when the connection breaks.
CHUNK_BYTES: Final = 2**18


@dataclass(frozen=True)
class File:
    """A file to download; the cache keeps it under its tag."""

    name: str
    bytes: int
    tag: str


class Download:
    """The download of one model into Hugging Face's cache.

    Parameters
    ----------
    name
        The model.
    cache
        The folder of the cache.
    """

    def __init__(self, name: str, cache: Path) -> None:
        self._name = name
        self._cache = cache
        self._folder = cache / f"models--{name.replace('/', '--')}"
        self._commit = ""
        self._files: list[File] = []

    @property
    def total(self) -> int:
        """Bytes of the model, 0 while they are not known."""
        return sum(file.bytes for file in self._files)

    def count_done(self) -> int:
        """Count the bytes that are there."""
        return sum(self._count(file) for file in self._files)

    def run(self) -> None:
        """Download what is not there yet.

        Raises
        ------
        JobFailedError
            Saying what to do about it.
        """
        try:
            info = HfApi().model_info(self._name, files_metadata=True, timeout=TIMEOUT_S)
            self._files = list(_select(self._name, info))
            self._commit = info.sha or ""
            self._demand_room()
            for file in self._files:
                self._download(file)
        except (OSError, HFValidationError) as error:  # every error of the library and of requests is an OSError
            raise explain(error, self._name, self._cache) from error

    def _download(self, file: File) -> None:
        if self._partial(file).is_file() and self._partial(file).stat().st_size > file.bytes:
            self._partial(file).unlink()  # the library would ask for what comes after the end, for ever
        failures = 0
        while True:
            before = self._count(file)
            try:
                hf_hub_download(self._name, file.name, revision=self._commit, cache_dir=self._cache)
            except requests.exceptions.ChunkedEncodingError:  # the one broken connection that it does not take up
                failures = failures + 1 if self._count(file) <= before else 0
                if failures == TRIES:
                    raise
                time.sleep(PAUSE_S)
            else:
                return

    def _demand_room(self) -> None:
        place = next(folder for folder in (self._cache, *self._cache.parents) if folder.exists())
        free = shutil.disk_usage(place).free
        lacking = self.total - self.count_done()
        if lacking > free:
            raise _say_full(
                f"{self._name} needs {lacking / 1e9:.1f} GB more, and {place} has {free / 1e9:.1f} GB left", self._cache
            )

    def _count(self, file: File) -> int:
        if (self._folder / "snapshots" / self._commit / file.name).exists():
            return file.bytes
        try:
            return min(file.bytes, self._partial(file).stat().st_size)
        except OSError:
            return 0

    def _partial(self, file: File) -> Path:
        return self._folder / "blobs" / f"{file.tag}.incomplete"


def _select(name: str, info: ModelInfo) -> Iterator[File]:
    """Choose the files to download; the weights come last, so that nothing looks complete before it is."""
    found = {sibling.rfilename: sibling for sibling in info.siblings or [] if "/" not in sibling.rfilename}
    weights = [WEIGHTS] if WEIGHTS in found else sorted(file for file in found if fnmatchcase(file, SHARDS))
    if not weights or (weights != [WEIGHTS] and WEIGHTS_INDEX not in found):
        pickles = [file for file in found if any(fnmatchcase(file, pattern) for pattern in PICKLES)]
        if pickles:
            raise pickles_refused(name, pickles)
        raise unusable_model(f"{name} has no {WEIGHTS}; choose a MusicGen model in the Hugging Face layout.")
    for needed in NEEDED:
        if needed not in found:
            raise unusable_model(f"{name} has no {needed}; choose a MusicGen model in the Hugging Face layout.")
    wanted = [*NEEDED, *WANTED] if weights == [WEIGHTS] else [*NEEDED, *WANTED, WEIGHTS_INDEX]
    small = [file for file in found if any(fnmatchcase(file, pattern) for pattern in wanted)]
    for file in [*sorted(small), *weights]:
        yield File(file, found[file].size or 0, _find_tag(found[file]))


def _find_tag(sibling: RepoSibling) -> str:
    return (sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id) or ""


def explain(error: Exception, name: str, cache: Path) -> JobFailedError:
    """Say in words what went wrong, and what to do."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the hub could not be asked
    if is_disk_full(error):
        return _say_full(f"The disk was full before all of {name} was there", cache)
    return JobFailedError("model-unavailable", _describe(error, name, cache))


def _describe(error: Exception, name: str, cache: Path) -> str:
    hub = constants.ENDPOINT
    otherwise = (
        f"put the model's files into the folder {name} of MINDJOBS_MODELS_DIR, "
        f"set HF_ENDPOINT to a mirror for the workers, or use {TINY}"
    )
    match error:
        case OfflineModeIsEnabled():
            return (
                f"{name} is not on this machine, and HF_HUB_OFFLINE is set; unset it for the workers, or {otherwise}."
            )
        case HFValidationError():
            return f"{name} is no name that a hub knows; check it."
        case HfHubHTTPError(response=requests.Response() as answer):
            return _describe_answer(error, answer, name, otherwise)
        case FileMetadataError() | requests.exceptions.InvalidJSONError():
            return f"{hub} does not answer as a hub does; check HF_ENDPOINT, or {otherwise}."
        case requests.RequestException():
            return (
                f"{name} is not on this machine, and {hub} cannot be reached or stopped answering "
                f"({type(error).__name__}); try again later, {otherwise}."
            )
        case _:
            return f"{name} cannot be stored in {cache} ({error}); set HF_HOME for the workers to a folder of theirs."


def _describe_answer(error: HfHubHTTPError, answer: requests.Response, name: str, otherwise: str) -> str:
    hub = constants.ENDPOINT
    status = answer.status_code
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is open to those alone who accepted its conditions: accept them at {hub}/{name}, "
            "and set HF_TOKEN for the workers."
        )
    if status in {requests.codes.unauthorized, requests.codes.forbidden}:
        return (
            f"{hub} does not let this service read {name} ({status}): it is private, or there is none. "
            "Check the name, and for a private one set HF_TOKEN for the workers."
        )
    if status == requests.codes.not_found:
        return f"There is no model {name} at {hub}; check the name, or {otherwise}."
    return f"{hub} answered {status} when asked for {name}; try again later, or {otherwise}."


def _say_full(what: str, cache: Path) -> JobFailedError:
    return JobFailedError(
        "disk-full",
        f"{what}; make room where {cache} lies, or set HF_HOME for the workers to a folder on a larger disk.",
    )


class _ProgressPrinter(Background):
    """Says how far the download is, and ends the process when nobody listens any more."""

    def __init__(self, download: Download) -> None:
        super().__init__("teller")
        self._download = download
        self._most = 0

    def tell(self) -> None:
        """Print a line."""
        # A server that starts a file anew makes what is done less; progress never is.
        self._most = max(self._most, self._download.count_done())
        _print({"done": self._most, "total": self._download.total})

    def _run(self) -> None:
        while not self._stop_requested.wait(REPORT_INTERVAL_S):
            try:
                self.tell()
            except BrokenPipeError:
                os._exit(1)


def main(name: str, cache: str) -> None:
    """Download the model, telling how far it is."""
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    download = Download(name, Path(cache))
    try:
        with _ProgressPrinter(download) as teller:
            download.run()
        teller.tell()
    except JobFailedError as error:
        _print({"error": {"type": error.type, "text": error.text.serialize()}})


def _print(message: object) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
