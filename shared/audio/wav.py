"""Writes WAV files with texts (LIST/INFO), and reads these texts.

libsndfile adds a chunk with the time to WAV files of floats, so that the same audio would give another file each
second, and it reads no text that is longer than 2,047 bytes. So these files are written and read here. They are never
long enough to need RF64 (4 GB).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Final

MAX_INFO_BYTES: Final = 2**24
"""A longer list of texts is not read."""
_PCM: Final = 1
_IEEE_FLOAT: Final = 3


@dataclass(frozen=True)
class WavForm:
    """The samples of a WAV file: ``sample_bytes`` per sample of a channel, floats or signed integers."""

    channels: int
    sample_rate_hz: int
    sample_bytes: int
    is_float: bool

    @property
    def frame_bytes(self) -> int:
        """The bytes of one sample of all channels."""
        return self.channels * self.sample_bytes


def build_wav(form: WavForm, data: bytes, info: Mapping[str, str]) -> bytes:
    """Build a WAV file.

    Parameters
    ----------
    data
        The samples, little endian, those of all channels at one moment after each other.
    info
        The texts of the file, keyed by the identifiers of INFO, for example ``INAM`` for the title. They are written as
        UTF-8, and end at the first NUL.
    """
    description = struct.pack(
        "<HHIIHH",
        _IEEE_FLOAT if form.is_float else _PCM,
        form.channels,
        form.sample_rate_hz,
        form.sample_rate_hz * form.frame_bytes,
        form.frame_bytes,
        8 * form.sample_bytes,
    )
    chunks = [_build_chunk(b"fmt ", description)]
    if form.is_float:
        chunks.append(_build_chunk(b"fact", struct.pack("<I", len(data) // form.frame_bytes)))
    texts = [_build_chunk(name.encode("ascii"), _encode(text)) for name, text in info.items()]
    if texts:
        chunks.append(_build_chunk(b"LIST", b"INFO" + b"".join(texts)))
    chunks.append(_build_chunk(b"data", data))
    return b"".join([b"RIFF", struct.pack("<I", 4 + sum(map(len, chunks))), b"WAVE", *chunks])


def is_wav(start: bytes) -> bool:
    """Return whether the first 12 bytes of a file are those of a WAV file."""
    return start[:4] in {b"RIFF", b"RF64"} and start[8:12] == b"WAVE"


def read_info(file: IO[bytes]) -> dict[str, str]:
    """Read the texts of a WAV file, keyed by the identifiers of INFO; of a damaged file, those that are intact."""
    file.seek(12)
    for name, size in _list_chunks(file):
        if name == b"LIST" and size <= MAX_INFO_BYTES and (content := file.read(size))[:4] == b"INFO":
            return dict(_parse_texts(content))
    return {}


def _build_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _encode(text: str) -> bytes:
    return text.partition("\0")[0].encode("utf-8", "replace") + b"\0"


def _list_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the name and the size of each chunk; the position of the file is then the start of the chunk's content."""
    position = file.tell()
    while len(head := file.read(8)) == 8:  # noqa: PLR2004 - the name and the size
        name, size = struct.unpack("<4sI", head)
        yield name, size
        position += 8 + size + size % 2
        file.seek(position)


def _parse_texts(content: bytes) -> Iterator[tuple[str, str]]:
    position = 4
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        text = content[position + 8 : position + 8 + size]
        yield name.decode("latin-1"), text.partition(b"\0")[0].decode("utf-8", "replace")
        position += 8 + size + size % 2
