"""Where to go on after something was done."""

import re
from typing import Final

# Browsers read \ as /, two of which begin a host, and drop tabs and ends of lines before they look.
_OWN: Final = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")


def choose_next(wanted: str | None, otherwise: str) -> str:
    """Return the page to go on to: one of this service's, wherever a link that was followed would lead."""
    return wanted if wanted and _OWN.fullmatch(wanted) else otherwise
