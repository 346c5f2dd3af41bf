"""Provides the folder of a model: finds the folder on this machine, builds the model, or downloads it."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from huggingface_hub import constants

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import (
    TINY,
    builtin_folder,
    find_missing_file,
    find_model,
    is_allowed,
    own_folder,
)
from shared.settings import Settings
from shared.texts import Text, text
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.model.builtin_model import build_tiny
from worker.engines.musicgen.model.configuration import unusable_model
from worker.engines.musicgen.model.download_cache import DownloadLimits, find_folder, hold_model, mark_used
from worker.engines.musicgen.model.weights import list_files

ROOT: Final = Path(__file__).parents[4]
# These variables make huggingface_hub download by plain HTTP, without progress bars and telemetry. Its other download
# methods (Xet and hf_transfer) cannot continue a download after an interruption.
PLAIN_DOWNLOADS: Final = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_ENABLE_HF_TRANSFER": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
MAX_KILLS: Final = 3
"""A download fails if its process is killed more often than this."""


def is_download_needed(settings: Settings, name: str) -> bool:
    """Return whether a model has to be downloaded before a job can use it."""
    return (
        name != TINY
        and is_allowed(settings, name)
        and own_folder(settings, name) is None
        and find_model(settings, name) is None
    )


@contextmanager
def open_model(settings: Settings, name: str, report: ReportProgress) -> Iterator[Path]:
    """Provide the folder of a model as `fetch` does; while the block runs, no process deletes the model."""
    while True:
        folder = fetch(settings, name, report)
        with hold_model(folder):
            if folder.exists():
                yield folder
                return


def fetch(settings: Settings, name: str, report: ReportProgress) -> Path:
    """Return the folder of a model; build or download the model if it is not on this machine.

    Parameters
    ----------
    settings
        Where models are stored, which models are allowed, and how large downloads may be. Hugging Face's own
        environment variables decide whether models may be downloaded, and from where.
    name
        The model, for example ``facebook/musicgen-small``.
    report
        Called with the progress of the stage ``downloading``. If ``report`` raises because the job must stop,
        the bytes that were downloaded are kept for the next attempt.

    Raises
    ------
    JobFailedError
        The model cannot be provided.
    JobStoppedError
        Passed on from ``report``.
    """
    require_allowed(settings, name)
    folder = find_model(settings, name)
    if folder is not None:
        mark_used(folder)
        return folder
    own = own_folder(settings, name)
    if own is not None:
        list_files(own)  # raises a more specific error if the folder has only pickles
        raise unusable_model(text("model-folder-incomplete", missing=str(find_missing_file(own))))
    if name == TINY:
        build_tiny(builtin_folder(settings))
    else:
        download(settings, name, (), report)
    folder = find_model(settings, name)
    if folder is None:
        raise unusable_model(text("model-download-incomplete", model=name))
    return folder


def require_allowed(settings: Settings, name: str) -> None:
    """Refuse a model that jobs may not use.

    The model is checked at submission too, but the job may have been queued before the setting was changed, or by a
    machine with other settings.

    Raises
    ------
    JobFailedError
        The model is not allowed.
    """
    if not is_allowed(settings, name):
        raise JobFailedError("model-not-allowed", text("model-not-allowed", model=name))


def download(settings: Settings, name: str, keep: Collection[str], report: ReportProgress) -> None:
    """Download a model into Hugging Face's cache; several processes may download the same model at the same time.

    Parameters
    ----------
    keep
        The names of the models that must not be deleted to make room.
    report
        See `fetch`.

    Raises
    ------
    JobFailedError
        The model is not allowed, or cannot be downloaded.
    JobStoppedError
        Passed on from ``report``.
    """
    require_allowed(settings, name)
    report(stage="downloading", done=0, total=0, unit="bytes")
    cache = Path(constants.HF_HUB_CACHE).absolute()
    limits = DownloadLimits(
        settings.max_model_mb * 2**20,
        settings.max_model_cache_mb * 2**20,
        tuple(kept for kept in keep if find_folder(cache, kept).exists()),
    )
    arguments = [name, str(cache), limits.serialize()]
    kills = 0
    while status := _run_download(arguments, report):
        kills += 1
        if status > 0 or kills > MAX_KILLS:
            reason = text("download-process-failed", model=name, status=status)
            raise JobFailedError("model-unavailable", reason)


def _run_download(arguments: list[str], report: ReportProgress) -> int:
    """Run the process of ``download``, pass on its progress, and return its exit status, negative if it was killed."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.engines.musicgen.model.download", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | PLAIN_DOWNLOADS | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,  # Ctrl-C then reaches only the worker, which handles it
    ) as process:
        try:
            for line in process.stdout or ():
                _handle_message(json.loads(line), report)
        except BaseException:
            process.kill()
            raise
    return process.returncode


def _handle_message(message: dict[str, Any], report: ReportProgress) -> None:
    match message:
        case {"error": {"type": str(error_type), "text": dict(stored)}}:
            raise JobFailedError(error_type, Text.parse(stored))
        case {"done": int(done), "total": int(total)}:
            report(stage="downloading", done=done, total=total, unit="bytes")
