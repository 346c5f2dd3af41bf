"""Detects the media type of a file from its content, because the file name that the client sends proves nothing."""

from pathlib import Path
from typing import Final

from shared.inspection.upload_kinds import START_BYTES, detect_audio_type

TEXT_BYTES: Final = 2**16
"""The number of bytes of a file that are read to decide whether the file is text."""


def detect_media_type(path: Path) -> str:
    """Recognise text and audio by the first bytes; nothing is parsed.

    The media type of any other file is ``application/octet-stream``.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if _is_text(path):
        return "text/csv"
    return detect_audio_type(start) or "application/octet-stream"


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
