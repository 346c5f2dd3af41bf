"""Inspects audio. Only the process without rights imports this module, since it decodes what anyone may upload."""

from pathlib import Path
from typing import Any

from shared.audio.inspecting import inspect_audio


def inspect(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Find out what is in an audio file.

    Parameters
    ----------
    options
        ``max_s``: how much audio may be decoded, in seconds.

    Raises
    ------
    AudioError
        The file has no sound that can be read.
    """
    return inspect_audio(path, options["max_s"]).model_dump(mode="json")
