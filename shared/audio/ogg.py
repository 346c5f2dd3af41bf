"""Makes Ogg files of the same audio equal: libsndfile draws a number for the stream of each file."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

_HEAD: Final = struct.Struct("<4sBBqIIIB")
"""The head of a page: capture pattern, version, type, position, stream, page, checksum and number of segments."""
_STREAM: Final = 14
_CHECKSUM: Final = 22
_REVERSED: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


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
        if pattern != b"OggS":
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
