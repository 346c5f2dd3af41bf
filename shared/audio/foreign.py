"""Files that are not audio but are taken for it, recognised by their first bytes, so that the error can name them."""

import re
from collections.abc import Mapping
from typing import Final

from shared.audio.errors import AudioError
from shared.texts import text

_BLANK: Final = rb"(\xef\xbb\xbf)?\s*"
_PLAYLISTS: Final = re.compile(
    _BLANK + rb"(#EXTM3U|\[playlist\]|ffconcat|<asx\b|\[Reference\]|(<\?xml[^>]*>\s*)?<(smil|playlist|MPD)\b)",
    re.IGNORECASE,
)
_FOREIGN: Final[Mapping[str, re.Pattern[bytes]]] = {
    "an SVG picture": re.compile(
        _BLANK + rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b", re.IGNORECASE | re.DOTALL
    ),
    "a web page": re.compile(_BLANK + rb"(<!DOCTYPE html|<html|<head|<body)", re.IGNORECASE),
    "XML": re.compile(_BLANK + rb"<\?xml"),
    "a picture": re.compile(
        rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*", re.DOTALL
    ),
    "MIDI, which has notes and no sound": re.compile(rb"MThd\0\0\0\x06|RIFF....RMID", re.DOTALL),
    "a PDF document": re.compile(rb"%PDF-"),
    "an archive": re.compile(rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!"),
    "a program": re.compile(rb"\x7fELF|MZ\x90"),
}


def is_playlist(start: bytes) -> bool:
    """Return whether a file names other files; it may be called as audio is, but is never opened."""
    return _PLAYLISTS.match(start) is not None


def is_markup(start: bytes) -> bool:
    """Return whether a file is text that no table is: SVG, XML or a web page."""
    return any(_FOREIGN[what].match(start) for what in ("an SVG picture", "a web page", "XML"))


def refuse_foreign(start: bytes) -> None:
    """Refuse a file that is certainly not audio, before any decoder sees it.

    Raises
    ------
    AudioError
        The file is of another kind.
    """
    if is_playlist(start):
        raise AudioError(text("sound-playlist"))
    for what, pattern in _FOREIGN.items():
        if pattern.match(start):
            raise AudioError(text("sound-foreign", what=what))
