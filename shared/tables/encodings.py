"""The encoding of a text file: detected from its bytes, and decoded with a mark for each byte that cannot be decoded.

A byte order mark decides. Without one, UTF-16 is seen by its zero bytes, which no other text has, and UTF-8 by being
valid throughout, which a text in another encoding is only by chance. GB18030 is told from the Western encodings by its
pairs of bytes: Western texts have single letters with accents between letters of ASCII. What is left is cp1252 or, if
it has bytes that cp1252 does not define, Latin-1. These two decode any text, so a guess of them comes with a warning.

charset-normalizer was compared on tables with German, French, Spanish and Chinese words. It is right for UTF-8, UTF-16
and GB18030, but found cp1252 in a third of the tables only, and encodings of the same family that have other letters in
the rest. So this module decides between the few encodings that tables have.
"""

import codecs
import re
from typing import Final

from shared.tables.errors import TableError
from shared.tables.facts import ENCODINGS
from shared.texts import text

UNDECODABLE: Final = "\udcff"
"""What stands for a byte that cannot be decoded. No valid text contains it."""
ERRORS: Final = "mindjobs-mark"
"""The name of the error handler that inserts `UNDECODABLE`."""
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES: Final = 4_096
_MIN_ZERO_SHARE: Final = 0.1
_MAX_STRAY_SHARE: Final = 0.01
_MULTIBYTE: Final = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH: Final = re.compile(rb"[\x80-\xff]+")
# The 3,755 most frequent characters and the punctuation of GB2312, in the order of pronunciation.
_COMMON_GB: Final = re.compile(rb"[\xb0-\xd7\xa1-\xa3][\xa1-\xfe]")
_UNDEFINED_CP1252: Final = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODABLE, error.end


codecs.register_error(ERRORS, _mark)


def find_encoding(data: bytes, wanted: str | None) -> str:
    """Return the encoding of a text: the wanted one, or the one that is detected.

    Raises
    ------
    TableError
        The wanted encoding is not one of `ENCODINGS`.
    """
    if wanted is None:
        return detect_encoding(data)
    if wanted not in ENCODINGS:
        raise TableError(text("encoding-unknown", encoding=wanted, known=", ".join(ENCODINGS)))
    if wanted == "utf-16" and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _detect_utf16(data[:_SAMPLE_BYTES]) or "utf-16-le"
    return wanted


def detect_encoding(data: bytes) -> str:
    """Return the encoding that the bytes most likely have; see the module."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    wide = _detect_utf16(data[:_SAMPLE_BYTES])
    if wide:
        return wide
    try:
        codecs.utf_8_decode(data, "strict", True)  # noqa: FBT003 - takes no keywords
    except UnicodeDecodeError:
        return _detect_8_bit(data)
    return "utf-8"


def open_codec(encoding: str) -> str:
    """Return the codec that also removes a byte order mark."""
    return "utf-8-sig" if encoding == "utf-8" else encoding


def is_guessed(encoding: str) -> bool:
    """Return whether the bytes of a text cannot contradict this encoding."""
    return encoding in {"cp1252", "latin-1"}


def _detect_utf16(sample: bytes) -> str | None:
    even = sample[0::2].count(0) / max(1, len(sample[0::2]))
    odd = sample[1::2].count(0) / max(1, len(sample[1::2]))
    if odd >= _MIN_ZERO_SHARE and even <= _MAX_STRAY_SHARE:
        return "utf-16-le"
    if even >= _MIN_ZERO_SHARE and odd <= _MAX_STRAY_SHARE:
        return "utf-16-be"
    return None


def _detect_8_bit(data: bytes) -> str:
    high_bytes = len(data) - len(data.translate(None, bytes(range(128, 256))))
    multibyte = sum(len(sequence) for sequence in _MULTIBYTE.findall(data))
    if multibyte > 0.9 * high_bytes:
        return "utf-8"  # damaged
    if _is_gb18030(data, high_bytes):
        return "gb18030"
    return "latin-1" if _UNDEFINED_CP1252.search(data) else "cp1252"


def _is_gb18030(data: bytes, high_bytes: int) -> bool:
    paired = sum(len(run) for run in _HIGH.findall(data) if len(run) % 2 == 0)
    common = sum(len(pair) for run in _HIGH.findall(data) for pair in _COMMON_GB.findall(run))
    if paired < 0.8 * high_bytes or common < 0.6 * high_bytes:
        return False
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True
