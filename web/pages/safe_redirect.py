"""Where to redirect after an action."""

import re
from typing import Final

# Browsers read a backslash as a slash, two of which begin a host, and remove tabs and line breaks first.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")


def choose_next(wanted: str | None, default: str) -> str:
    """Return the wanted address if it is a path of this service, and the default if it could lead elsewhere."""
    return wanted if wanted and _OWN_PATH.fullmatch(wanted) else default
