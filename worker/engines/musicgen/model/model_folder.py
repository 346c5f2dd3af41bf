"""Provides the folder of a model: finds the folder on this machine, builds the model, or downloads it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from huggingface_hub import constants

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import TINY, builtin_folder, find_missing_file, find_model, own_folder
from shared.settings import Settings
from shared.texts import Text, text
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.model.builtin_model import build_tiny
from worker.engines.musicgen.model.configuration import unusable_model
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


def fetch(settings: Settings, name: str, report: ReportProgress) -> Path:
    """Return the folder of a model; build or download the model if it is not on this machine.

    Parameters
    ----------
    settings
        Where models are stored. Hugging Face's own environment variables decide whether models may be downloaded, and
        from where.
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
    folder = find_model(settings, name)
    if folder is not None:
        return folder
    own = own_folder(settings, name)
    if own is not None:
        list_files(own)  # raises a more specific error if the folder has only pickles
        raise unusable_model(text("model-folder-incomplete", missing=str(find_missing_file(own))))
    if name == TINY:
        build_tiny(builtin_folder(settings))
    else:
        _download(name, report)
    folder = find_model(settings, name)
    if folder is None:
        raise unusable_model(text("model-download-incomplete", model=name))
    return folder


def _download(name: str, report: ReportProgress) -> None:
    """Run ``download`` and pass on its progress."""
    report(stage="downloading", done=0, total=0, unit="bytes")
    cache = Path(constants.HF_HUB_CACHE).absolute()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.engines.musicgen.model.download", name, str(cache)],
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
    if process.returncode:
        reason = text("download-process-failed", model=name, status=process.returncode)
        raise JobFailedError("model-unavailable", reason)


def _handle_message(message: dict[str, Any], report: ReportProgress) -> None:
    match message:
        case {"error": {"type": str(error_type), "text": dict(stored)}}:
            raise JobFailedError(error_type, Text.parse(stored))
        case {"done": int(done), "total": int(total)}:
            report(stage="downloading", done=done, total=total, unit="bytes")
