"""Names for downloads that every system can store: they may contain what a user wrote."""

import re
import unicodedata
from functools import lru_cache
from typing import Final

MAX_NAME_BYTES: Final = 140
"""The maximum length of a name in UTF-8. Linux, macOS and Windows allow 255, encrypted folders on Linux 143."""
_READ_CHARACTERS: Final = 500
"""How many characters of a text are read; longer texts are cut anyway."""
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_FORBIDDEN: Final = frozenset('<>:"/\\|?*')
"""What Windows does not allow in names; it includes the separators of paths of every system."""
_RESERVED: Final = re.compile(r"(?i)(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*(?:\.|$)")
"""The names of devices on Windows, which no file may have, whatever its extension is."""


@lru_cache(2**12)
def make_name(text: str, end: str, fallback: str = "file") -> str:
    """Make the name of a file from a text.

    Parameters
    ----------
    text
        Any text. What no name may contain becomes a blank; characters that are not visible, among them those that
        change the direction of writing, are left out. A long text is cut.
    end
        The end of the name, with the extension: printable ASCII that is allowed in names. It is kept whole.
    fallback
        The text to use if nothing is left of ``text``.
    """
    room_bytes = MAX_NAME_BYTES - len(end) - 1  # for the underscore
    stem = _cut(_clean(text[:_READ_CHARACTERS]), room_bytes) or _cut(_clean(fallback), room_bytes) or "file"
    name = f"{stem}{end}"
    return f"_{name}" if _RESERVED.match(name) else name


def make_ascii_name(name: str) -> str:
    """Make a name of ASCII characters for programs that understand no other name."""
    if name.isascii():
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = _EXTENSION.search(plain)
    end = found.group() if found else ""
    return make_name(plain.removesuffix(end), end)


def _clean(text: str) -> str:
    characters = (_replace(character) for character in unicodedata.normalize("NFC", text))
    # Windows removes blanks and dots at the end of a name, a dot at the start hides a file, and a hyphen there makes it
    # an option of commands.
    return " ".join("".join(characters).split()).strip(" .").lstrip(" .-")


def _replace(character: str) -> str:
    category = unicodedata.category(character)
    if character in _FORBIDDEN or character.isspace() or category in {"Zl", "Zp", "Zs"}:
        return " "
    return "" if category.startswith("C") else character


def _cut(text: str, max_bytes: int) -> str:
    if len(text.encode()) <= max_bytes:
        return text
    return text.encode()[:max_bytes].decode("utf-8", "ignore").rstrip(" .")
