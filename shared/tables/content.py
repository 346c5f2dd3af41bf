"""The bytes of a file: read and unpacked within a limit, and refused if they are something else than a table."""

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.tables.errors import TableError
from shared.texts import text

GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"
PARQUET: Final = b"PAR1"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_CHUNK_BYTES: Final = 2**20

# The first bytes of files that people upload by mistake. A text could begin with one of these only by chance.
_FOREIGN: Final[Mapping[bytes, str]] = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF-": "a PDF document",
    b"RIFF": "a sound, video or picture file",
    b"OggS": "a sound file",
    b"fLaC": "a sound file",
    b"ID3": "a sound file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"Rar!": "a RAR archive",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"ARROW1": "an Arrow file",
    b"\x7fELF": "a program",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML file",
    b"{": "a JSON file",
    b"[": "a JSON file",
}


@dataclass(frozen=True)
class Content:
    """The bytes of a file, and whether they were compressed by gzip."""

    data: bytes
    compressed: bool = False


def read_content(path: Path, max_bytes: int) -> Content:
    """Read a file, and unpack gzip.

    Raises
    ------
    TableError
        The file does not exist, is empty or larger than the limit, is damaged, or has a format that is not a table.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise TableError(text("file-gone")) from error
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    compressed = data.startswith(GZIP)
    if compressed:
        data = _unpack_gzip(data, max_bytes)
    if not data.strip():
        raise TableError(text("file-empty"))
    _refuse_foreign(data)
    return Content(data, compressed)


def _unpack_gzip(data: bytes, max_bytes: int) -> bytes:
    """Unpack gzip, which may consist of several members, and stop at the limit."""
    unpacked = io.BytesIO()
    while data.startswith(GZIP):
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            while not member.eof:
                part = member.decompress(data, _CHUNK_BYTES)
                if not part and not member.eof and not member.unconsumed_tail:
                    raise TableError(text("gzip-damaged"))
                data = member.unconsumed_tail
                unpacked.write(part)
                if unpacked.tell() > max_bytes:
                    raise _too_large(max_bytes)
        except zlib.error as error:
            raise TableError(text("gzip-damaged")) from error
        data = member.unused_data
    return unpacked.getvalue()


def _refuse_foreign(data: bytes) -> None:
    if data.startswith(_OLE):
        raise TableError(text("xlsx-password" if _ENCRYPTED in data else "xls-old"))
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise TableError(text("file-foreign", what=what))


def _too_large(max_bytes: int) -> TableError:
    return TableError(text("file-too-long", max_bytes=max_bytes))
