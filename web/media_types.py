"""Detects the media type of a file from its content, because the file name that the client sends proves nothing."""

from pathlib import Path
from typing import Final

import soundfile

TEXT_BYTES: Final = 2**16
"""The number of bytes of a file that are read to decide whether the file is text."""
# The registered media types of audio formats, keyed by libsndfile's name of the format.
_AUDIO: Final = {"WAV": "audio/wav", "FLAC": "audio/flac", "MP3": "audio/mpeg", "OGG": "audio/ogg"}


def detect_media_type(path: Path) -> str:
    """Recognise the files that jobs can read: tables, which are text, and audio that libsndfile can open.

    The media type of any other file is ``application/octet-stream``.
    """
    if _is_text(path):
        return "text/csv"
    try:
        name = soundfile.info(path).format
    except soundfile.LibsndfileError:
        return "application/octet-stream"
    return _AUDIO.get(name.removesuffix("EX"), f"audio/x-{name.lower()}")  # WAVEX is a newer form of WAV


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(TEXT_BYTES)
        cut = bool(file.read(1))
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if not (cut and error.reason == "unexpected end of data"):  # the bytes in `start` may end inside a character
            return False
    return b"\0" not in start
