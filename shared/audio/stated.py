"""How long a file says that it is, which is compared with what could be decoded: files are often cut off.

FFmpeg also names a length where there is none: it estimates it from the bit rate, or shortens it to the size of the
file.
"""

import os
import re
import struct
from pathlib import Path
from typing import Final

from shared.audio.container import OpenedAudio

_EXACT: Final = frozenset({"aiff", "ape", "au", "caf", "flac", "mov", "ogg", "tta", "w64", "wv"})
"""The formats whose header states how long the sound is, or whose last page does (Ogg)."""
_MAX_WAV_BYTES: Final = 0x7FFF_0000
"""From this size on, the size of WAV is a substitute for an unknown one."""
_WAV_FORM: Final = "HHIIHHHH"
"""Tag, channels, rate, bytes per second, bytes per block, bits, size of what follows, and samples per block."""
_WAV_FORM_BYTES: Final = struct.calcsize(f"<{_WAV_FORM}")
_ADPCM: Final = frozenset({0x02, 0x11})
"""The tags of the formats whose blocks have several samples: Microsoft's, and IMA's."""
_MATROSKA_DURATION: Final = re.compile(rb"\x44\x89[\x84\x88]")
"""The element with the duration (RFC 9559, section 5.1.2); recordings that were written to a pipe have none."""
_XING: Final = re.compile(rb"Xing|Info|VBRI")
_HEAD_BYTES: Final = 4_096


def read_stated_s(path: Path, audio: OpenedAudio) -> float | None:
    """Return how long the file says that its sound is, in seconds; ``None`` if it does not say it."""
    name, stream = audio.format, audio.stream
    if name == "wav" and not _is_rf64(path):
        return _read_wav(path) if audio.codec.startswith(("pcm_", "adpcm_ima", "adpcm_ms")) else None
    if name == "matroska":
        duration = audio.container.duration if len(audio.container.streams) == 1 else None
        return duration / 1e6 if duration is not None and _states_duration(path) else None
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
    """Read the size of the samples in WAV. The average of bytes per second is not believed, as players do not."""
    with path.open("rb") as file:
        order = ">" if file.read(12).startswith(b"RIFX") else "<"
        bytes_per_s = 0.0
        while len(head := file.read(8)) == 8:  # noqa: PLR2004 - the name and the size of a chunk
            name, size = struct.unpack(f"{order}4sI", head)
            if name == b"data":
                return size / bytes_per_s if bytes_per_s and size < _MAX_WAV_BYTES else None
            if name == b"fmt ":
                bytes_per_s = _find_bytes_per_s(file.read(min(size, _WAV_FORM_BYTES)), order)
                file.seek(size - min(size, _WAV_FORM_BYTES), os.SEEK_CUR)
            else:
                file.seek(size, os.SEEK_CUR)
            file.seek(size % 2, os.SEEK_CUR)
    return None


def _find_bytes_per_s(form: bytes, order: str) -> float:
    """Find how many bytes a second has, by the sizes of the blocks; 0 if the description is damaged."""
    fields: tuple[int, ...] = struct.unpack(f"{order}{_WAV_FORM}", form.ljust(_WAV_FORM_BYTES, b"\0"))
    tag, _, rate_hz, _, block_bytes, _, _, block_samples = fields
    return rate_hz * block_bytes / (max(block_samples, 1) if tag in _ADPCM else 1)


def _states_duration(path: Path) -> bool:
    with path.open("rb") as file:
        return _MATROSKA_DURATION.search(file.read(_HEAD_BYTES)) is not None


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
