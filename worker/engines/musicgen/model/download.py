"""Gets a model onto this machine: found, built or downloaded."""

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
from shared.texts import Text
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.model.builtin_model import build_tiny
from worker.engines.musicgen.model.configuration import unusable_model
from worker.engines.musicgen.model.weights import list_files

ROOT: Final = Path(__file__).parents[4]
# The other ways in which the library downloads cannot be taken up again half-way.
PLAIN: Final = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_ENABLE_HF_TRANSFER": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def fetch(settings: Settings, name: str, report: ReportProgress) -> Path:
    """Return a model's folder, once it is there.

    Parameters
    ----------
    settings
        Where models lie; where and whether they are downloaded, Hugging Face's own variables say.
    name
        The model, ``facebook/musicgen-small`` for example.
    report
        Told of the stage ``downloading``. When it says that the job must stop, what
        has come so far stays for the next attempt.

    Raises
    ------
    JobFailedError
        The model cannot be had, and what to do.
    JobStoppedError
        Passed on from ``report``.
    """
    folder = find_model(settings, name)
    if folder is not None:
        return folder
    own = own_folder(settings, name)
    if own is not None:
        list_files(own)  # knows what to say where there are only pickles
        raise unusable_model(
            f"{find_missing_file(own)}; complete that folder, or remove it and the model is downloaded."
        )
    if name == TINY:
        build_tiny(builtin_folder(settings))
    else:
        _download(name, report)
    folder = find_model(settings, name)
    if folder is None:
        raise unusable_model(
            f"{name} was downloaded, and parts of its weights are missing where it came from; tell its makers."
        )
    return folder


def _download(name: str, report: ReportProgress) -> None:
    """Run ``hub`` and pass on what it tells."""
    report(stage="downloading", done=0, total=0, unit="bytes")
    cache = Path(constants.HF_HUB_CACHE).absolute()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.engines.musicgen.model.hub_process", name, str(cache)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | PLAIN | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,  # Ctrl-C is for the worker to answer
    ) as process:
        try:
            for line in process.stdout or ():
                _pass_on(json.loads(line), report)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise JobFailedError(
            "model-unavailable",
            f"The download of {name} ended with status {process.returncode}; the worker's log says why.",
        )


def _pass_on(message: dict[str, Any], report: ReportProgress) -> None:
    match message:
        case {"error": {"type": str(error_type), "text": dict(text)}}:
            raise JobFailedError(error_type, Text.parse(text))
        case {"done": int(done), "total": int(total)}:
            report(stage="downloading", done=done, total=total, unit="bytes")
