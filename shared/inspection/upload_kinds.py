"""The kinds of upload, recognised by the first bytes and by the name, and the states of an inspection."""

import re
from enum import StrEnum
from pathlib import PurePath
from typing import Final

START_BYTES: Final = 4_096
"""How many bytes at the start of a file are needed to recognise its kind."""


class UploadKind(StrEnum):
    """What an upload is."""

    TABLE = "table"
    AUDIO = "audio"
    UNKNOWN = "unknown"


class InspectionState(StrEnum):
    """How far the inspection of an upload is."""

    PENDING = "pending"
    READY = "ready"
    UNREADABLE = "unreadable"


# Parquet, gzip, zip (Excel's .xlsx is one), and the older container of Excel, which also holds encrypted workbooks.
# Other files in a zip are tables too, so that the inspection says what is wrong with them.
_TABLE: Final = re.compile(rb"PAR1|\x1f\x8b|PK\x03\x04|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|\xff\xfe|\xfe\xff|\xef\xbb\xbf")
# WAV, AIFF, FLAC, Ogg, MP3 with a tag or without (MPEG layers I to III, and AAC in ADTS), MP4, Matroska and WebM, ASF,
# CAF, AU, AC-3, AMR, WavPack, Monkey's Audio.
_AUDIO: Final = re.compile(
    rb"(RIFF|RF64|RIFX)....WAVE|FORM....AIF[FC]|fLaC|OggS\0|ID3[\x02-\x04]|\xff[\xe2-\xe7\xf0-\xfd][^\xff]"
    rb"|\0...ftyp|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11|caff\0|\.snd\0|\x0b\x77|#!AMR|wvpk..\0|MAC .\x0f",
    re.DOTALL,
)
_TABLE_NAMES: Final = frozenset({".arff", ".csv", ".dat", ".data", ".parquet", ".tab", ".tsv", ".txt", ".xls", ".xlsx"})
_AUDIO_NAMES: Final = frozenset(
    {".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mka", ".mov", ".mp3", ".mp4"}
    | {".oga", ".ogg", ".opus", ".wav", ".weba", ".webm", ".wma"}
)
# Text has none of these bytes, in no encoding whose characters are bytes or groups of bytes without zeros.
_NOT_IN_TEXT: Final = bytes([*range(7), *range(0x0E, 0x1A), *range(0x1C, 0x20)])
_MAX_BINARY_SHARE: Final = 0.02
"""Text may be damaged. Of the bytes of compressed or encrypted files, 9 % are none of text, and of programs more."""
_MIN_ZERO_SHARE: Final = 0.3
"""Of UTF-16 in a Latin script, nearly half of the bytes are zeros."""


def detect_kind(start: bytes, filename: str | None) -> UploadKind:
    """Recognise the kind of an upload.

    Parameters
    ----------
    start
        The first `START_BYTES` of the file, or the whole file if it is shorter.
    filename
        The name that the client gave the file. It decides only if the content does not.
    """
    if _TABLE.match(start):
        return UploadKind.TABLE
    if _AUDIO.match(start):
        return UploadKind.AUDIO
    if _is_text(start) or _is_utf16(start):
        return UploadKind.TABLE
    suffix = PurePath(filename or "").suffix.lower()
    if suffix in _TABLE_NAMES:
        return UploadKind.TABLE
    return UploadKind.AUDIO if suffix in _AUDIO_NAMES else UploadKind.UNKNOWN


def _is_text(start: bytes) -> bool:
    binary = len(start) - len(start.translate(None, _NOT_IN_TEXT))
    return binary <= max(1, _MAX_BINARY_SHARE * len(start))


def _is_utf16(start: bytes) -> bool:
    """Return whether every other byte is often zero, and the others never are."""
    zeros = [start[offset::2].count(0) for offset in (0, 1)]
    return min(zeros) == 0 and max(zeros) >= _MIN_ZERO_SHARE * len(start)
