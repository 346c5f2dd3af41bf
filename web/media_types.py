"""What a file is, told by its content: what its sender calls it is nobody's word."""

from pathlib import Path
from typing import Final

import soundfile

from shared.kinds.musicgen.parameters import MEDIA_TYPES

TEXT_BYTES: Final = 2**16
"""So much of a file is looked at to tell whether it is text."""
_AUDIO: Final = {str(name).upper(): media_type for name, media_type in MEDIA_TYPES.items()}


def detect_media_type(path: Path) -> str:
    """Tell what the jobs can read: tables, as text, and whatever libsndfile opens; all else is just bytes."""
    if _is_text(path):
        return "text/csv"
    try:
        name = soundfile.info(path).format
    except soundfile.LibsndfileError:
        return "application/octet-stream"
    return _AUDIO.get(name.removesuffix("EX"), f"audio/x-{name.lower()}")  # WAVEX is a newer WAV


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(TEXT_BYTES)
        cut = bool(file.read(1))
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if not (cut and error.reason == "unexpected end of data"):  # a letter that the cut has split
            return False
    return b"\0" not in start
