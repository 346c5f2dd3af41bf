"""Reads and changes the pages of Ogg files.

libsndfile draws a number for the stream of each file, so that the same audio would give another file each time. And
files that were joined, or recorded from a radio station, are chained: each link has streams and headers of its own.
"""

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("<4sBBqIIIB")
"""The head of a page: capture pattern, version, type, position, stream, page, checksum and number of segments."""
_CAPTURE: Final = b"OggS"
_TYPE: Final = 5
_BEGINS_STREAM: Final = 2
_STREAM: Final = 14
_CHECKSUM: Final = 22
_REVERSED: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@dataclass(frozen=True)
class Link:
    """The first byte of a link of a chained file, and the byte after its last one."""

    start: int
    end: int


def find_links(path: Path) -> list[Link]:
    """Find the links of a file, which must not be empty; a file that is not chained has one.

    References
    ----------
    RFC 3533, section 4: the streams of a link all begin before any of them goes on.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts = [0]
        is_head = True
        position = 0
        while 0 <= position <= len(content) - _HEAD.size:
            begins = bool(content[position + _TYPE] & _BEGINS_STREAM)
            if begins and not is_head:
                starts.append(position)
            is_head = begins
            segments = content[position + _HEAD.size - 1]
            body = position + _HEAD.size + segments
            position = content.find(_CAPTURE, body + sum(content[position + _HEAD.size : body]))
        ends = [*starts[1:], len(content)]
    return [Link(*link) for link in zip(starts, ends, strict=True)]


def set_stream_number(content: bytes, number: int) -> bytes:
    """Set the number of the only stream of an Ogg file.

    References
    ----------
    RFC 3533, section 6.
    """
    return b"".join(_renumber(page, number) for page in _split_pages(content))


def _split_pages(content: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(content):
        pattern, *_, segments = _HEAD.unpack_from(content, position)
        if pattern != _CAPTURE:
            raise ValueError(f"no page of an Ogg file begins at byte {position}")
        body = position + _HEAD.size + segments
        end = body + sum(content[position + _HEAD.size : body])
        yield content[position:end]
        position = end


def _renumber(page: bytes, number: int) -> bytes:
    head = page[:_STREAM] + struct.pack("<I", number) + page[_STREAM + 4 : _CHECKSUM]
    checksum = _compute_checksum(head + bytes(4) + page[_CHECKSUM + 4 :])
    return head + struct.pack("<I", checksum) + page[_CHECKSUM + 4 :]


def _compute_checksum(page: bytes) -> int:
    """Compute the checksum of a page, whose own checksum is 0.

    Ogg and zlib use the same polynomial. Ogg's checksum reads the highest bit of each byte first, begins with 0, and
    does not invert the result.
    """
    inverted = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{inverted:032b}"[::-1], 2)
