"""Where to go on after something was done."""

import re
from typing import Final

_OWN: Final = re.compile(r"/(?![/\\])[^\x00-\x20]*")
"""An address on this host: browsers read two slashes, or a backslash for one, as the beginning of another host."""


def choose_next(wanted: str | None, otherwise: str) -> str:
    """Return the page to go on to: one of this service's, wherever a link that was followed would lead."""
    return wanted if wanted and _OWN.fullmatch(wanted) else otherwise
