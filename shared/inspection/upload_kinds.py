"""The kinds of upload, recognised by the first bytes and by the name, and the states of an inspection."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from shared.audio.foreign import is_markup, is_playlist

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
_AUDIO: Final[Mapping[str, re.Pattern[bytes]]] = {
    media_type: re.compile(start, re.DOTALL)
    for media_type, start in {
        "audio/wav": rb"(RIFF|RF64|RIFX|BW64)....WAVE|riff\x2e\x91\xcf\x11",  # the last is W64
        "audio/x-aiff": rb"FORM....AIF[FC]",
        "audio/flac": rb"fLaC",
        "audio/ogg": rb"OggS\0",
        # With a tag, or frames of MPEG 1, 2 or 2.5, layers I to III.
        "audio/mpeg": rb"ID3[\x02-\x04]|\xff[\xe2-\xe7\xf2-\xf7\xfa-\xfd][^\xff]",
        "audio/aac": rb"\xff[\xf0\xf1\xf8\xf9][^\xff]",
        "audio/mp4": rb"\0...ftyp(M4[ABP] |F4[AB] )",
        "audio/3gpp": rb"\0...ftyp3g[p2]",
        "video/quicktime": rb"\0...ftypqt|[\0-\x08]...(moov|mdat|wide|free|skip|pnot)",
        "video/mp4": rb"\0...ftyp",
        "video/webm": rb"\x1a\x45\xdf\xa3.{0,64}?\x42\x82.webm",
        "video/x-matroska": rb"\x1a\x45\xdf\xa3",
        "video/x-ms-asf": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        "audio/x-caf": rb"caff\0",
        "audio/basic": rb"\.snd\0",
        "audio/ac3": rb"\x0b\x77|\x77\x0b",
        "audio/vnd.dts": rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|DTSHDHDR",
        "audio/amr": rb"#!AMR",
        "audio/x-wavpack": rb"wvpk....[\x02-\x10]\x04",
        "audio/x-tta": rb"TTA1[\x01\x02]\0",
        "audio/x-voc": rb"Creative Voice File\x1a",
        "audio/vnd.dolby.mlp": rb"....\xf8\x72\x6f[\xba\xbb]",
        "audio/x-ape": rb"MAC .\x0f",
        "video/x-msvideo": rb"RIFF....AVI ",
        "video/x-flv": rb"FLV\x01",
        "video/mpeg": rb"\0\0\x01\xba",
        "video/mp2t": rb"(....)?G[\0\x40\x60][\0\x11].{185}(....)?G.{187}(....)?G",
    }.items()
}
"""How files with sound begin, keyed by media type; the first that matches counts. Videos are read for their sound."""
_TABLE_NAMES: Final = frozenset({".arff", ".csv", ".dat", ".data", ".parquet", ".tab", ".tsv", ".txt", ".xls", ".xlsx"})
_AUDIO_NAMES: Final = frozenset(
    {".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".dts", ".eac3", ".flac"}
    | {".flv", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpg", ".oga", ".ogg", ".opus", ".ts"}
    | {".thd", ".tta", ".voc", ".w64", ".wav", ".weba", ".webm", ".wma", ".wv"}
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
    suffix = PurePath(filename or "").suffix.lower()
    if is_playlist(start) or (is_markup(start) and suffix in _AUDIO_NAMES):
        return UploadKind.AUDIO  # so that the inspection says what it is
    if _TABLE.match(start):
        return UploadKind.TABLE
    if detect_audio_type(start) is not None:
        return UploadKind.AUDIO
    if _is_text(start) or _is_utf16(start) or suffix in _TABLE_NAMES:
        return UploadKind.TABLE
    return UploadKind.AUDIO if suffix in _AUDIO_NAMES else UploadKind.UNKNOWN


def detect_audio_type(start: bytes) -> str | None:
    """Return the media type of a file with sound, by its first `START_BYTES`; ``None`` if it is not recognised."""
    matching = (media_type for media_type, pattern in _AUDIO.items() if pattern.match(start))
    return next(matching, None)


def _is_text(start: bytes) -> bool:
    binary = len(start) - len(start.translate(None, _NOT_IN_TEXT))
    return binary <= max(1, _MAX_BINARY_SHARE * len(start))


def _is_utf16(start: bytes) -> bool:
    """Return whether every other byte is often zero, and the others never are."""
    zeros = [start[offset::2].count(0) for offset in (0, 1)]
    return min(zeros) == 0 and max(zeros) >= _MIN_ZERO_SHARE * len(start)
