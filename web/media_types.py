"""Detects the media type of a file from its content; what the client calls the file proves nothing."""

from pathlib import Path
from typing import Final

import soundfile

TEXT_BYTES: Final = 2**16
"""How much of a file is read to decide whether it is text."""
# libsndfile's names of formats that have a registered media type.
_AUDIO: Final = {"WAV": "audio/wav", "FLAC": "audio/flac", "MP3": "audio/mpeg", "OGG": "audio/ogg"}


def detect_media_type(path: Path) -> str:
    """Recognise what jobs can read: tables, which are text, and all that libsndfile opens. Any other file is bytes."""
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
        if not (cut and error.reason == "unexpected end of data"):  # the end of the read part can split a character
            return False
    return b"\0" not in start
