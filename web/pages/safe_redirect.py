"""Chooses the address to which an action redirects the browser."""

import re
from typing import Final

# Matches a path with one slash at its beginning: after two slashes, browsers would expect the name of a host. Browsers
# remove tabs and line breaks from an address, and then read a backslash as a slash. So the pattern also
# refuses control characters, and a backslash after the first slash.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")


def choose_next(wanted: str | None, default: str) -> str:
    """Return the wanted address if it is a path of this service; otherwise return the default address."""
    return wanted if wanted and _OWN_PATH.fullmatch(wanted) else default
