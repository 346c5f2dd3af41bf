"""Chooses the address to which an action redirects the browser."""

import re
from typing import Final

# Browsers remove tabs and line breaks, and then read a backslash as a slash. Two slashes begin the name of a host.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")


def choose_next(wanted: str | None, default: str) -> str:
    """Return the wanted address if it is a path of this service; otherwise return the default address."""
    return wanted if wanted and _OWN_PATH.fullmatch(wanted) else default
