"""Where to go on after something was done."""

from urllib.parse import urlsplit


def choose_next(wanted: str | None, otherwise: str) -> str:
    """Return the page to go on to: one of this service's, wherever a link that was followed would lead."""
    parts = urlsplit(wanted or "")
    own = parts.path.startswith("/") and not parts.path.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return wanted if wanted and own else otherwise
