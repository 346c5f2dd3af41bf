"""Builds the tag of an MP3 file: ID3v2.3 with texts in UTF-16.

libsndfile would write the bytes of UTF-8 and declare them as Latin-1, so that a title in Chinese would be unreadable.
"""

import struct

from shared.audio.tags import Tags


def build_id3(tags: Tags) -> bytes:
    """Build a tag, which stands at the start of an MP3 file. Each text ends at its first NUL.

    References
    ----------
    ID3 tag version 2.3.0, sections 3.1 (header), 4.2 (texts) and 4.11 (comments).
    """
    frames = [
        _build_frame(b"TIT2", b"\1" + _encode(tags.title)),
        _build_frame(b"TSSE", b"\1" + _encode(tags.software)),
        _build_frame(b"COMM", b"\1eng" + _encode("") + b"\0\0" + _encode(tags.comment)),  # the description is empty
    ]
    size = sum(map(len, frames))
    return b"".join([b"ID3\3\0\0", bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)), *frames])


def _build_frame(name: bytes, content: bytes) -> bytes:
    return name + struct.pack(">IH", len(content), 0) + content


def _encode(text: str) -> bytes:
    return b"\xff\xfe" + text.partition("\0")[0].encode("utf-16-le", "replace")
