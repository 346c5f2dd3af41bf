"""Chooses the address to which an action redirects the browser."""

import re
from typing import Final

# Matches a path with one slash at its beginning: after two slashes, browsers would expect the name of a host. Browsers
# remove tabs and line breaks from an address, and then read a backslash as a slash. So the pattern also
# refuses control characters, and a backslash after the first slash.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")
# These segments would lead out of the prefix to another service of the same host; browsers read %2e as a dot.
_DOT_SEGMENT: Final = re.compile(r"[/\\](?:\.|%2e){1,2}(?:[/\\?#]|$)", re.IGNORECASE)


def choose_next(wanted: str | None, default: str, prefix: str) -> str:
    """Return the address of the wanted page if this is a path of this service; otherwise return the default address.

    Parameters
    ----------
    wanted
        A path below the prefix.
    default
        An address that already has the prefix.
    prefix
        The prefix under which a proxy shows the service; empty if there is none.
    """
    is_own = wanted and _OWN_PATH.fullmatch(wanted) and not _DOT_SEGMENT.search(wanted)
    return f"{prefix}{wanted}" if is_own else default
