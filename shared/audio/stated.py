"""How long a file says that it is, which is compared with what could be decoded: files are often cut off.

FFmpeg also names a length where there is none: it estimates it from the bit rate, or shortens it to the size of the
file.
"""

import re
import struct
from pathlib import Path
from typing import Final

from shared.audio.container import OpenedAudio

_EXACT: Final = frozenset({"aiff", "ape", "au", "caf", "flac", "mov", "ogg", "tta", "w64", "wv"})
"""The formats whose header states how long the sound is, or whose last page does (Ogg)."""
_MAX_WAV_BYTES: Final = 0x7FFF_0000
"""From this size on, the size of WAV is a substitute for an unknown one."""
_XING: Final = re.compile(rb"Xing|Info|VBRI")
_HEAD_BYTES: Final = 4_096


def read_stated_s(path: Path, audio: OpenedAudio) -> float | None:
    """Return how long the file says that its sound is, in seconds; ``None`` if it does not say it."""
    name, stream = audio.format, audio.stream
    if name == "wav" and not _is_rf64(path):
        return _read_wav(path) if audio.codec.startswith("pcm_") else None
    if name == "matroska" and len(audio.container.streams) == 1 and audio.container.duration is not None:
        return audio.container.duration / 1e6
    if stream.duration is None or stream.time_base is None:
        return None
    if name in _EXACT or name == "wav" or (name == "mp3" and _has_xing_header(path)):
        return float(stream.duration * stream.time_base)
    return None


def _is_rf64(path: Path) -> bool:
    """Return whether a WAV file has its sizes in 64 bits; these FFmpeg does not change."""
    with path.open("rb") as file:
        return file.read(4) in {b"RF64", b"BW64"}


def _read_wav(path: Path) -> float | None:
    """Read the size of the samples in WAV."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    at, bytes_per_s = 12, 0
    while at + 20 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"fmt ":
            (bytes_per_s,) = struct.unpack_from("<I", head, at + 16)
        if name == b"data":
            return size / bytes_per_s if bytes_per_s and size < _MAX_WAV_BYTES else None
        at += 8 + size + size % 2
    return None


def _has_xing_header(path: Path) -> bool:
    """Return whether the first frame of an MP3 file states the number of frames; otherwise, the length is estimated."""
    with path.open("rb") as file:
        start = file.read(10)
        if start[:3] == b"ID3":
            size = 0
            for byte in start[6:10]:
                size = size << 7 | byte & 0x7F
            file.seek(10 + size)
        return _XING.search(file.read(_HEAD_BYTES)) is not None
