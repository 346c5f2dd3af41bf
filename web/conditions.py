"""The conditions of a request: which version of a resource it requires or knows, and which bytes of a file it wants.

The order and the rules are those of RFC 9110, sections 13 and 14. Werkzeug only cuts the file: its own evaluation
refuses ranges that the standard allows or lets a server ignore, takes a weak ``If-Range`` for a strong one, does not
read ``If-Unmodified-Since``, fails ``If-Match: *``, and sends the file with status 412.
"""

import re
from datetime import datetime
from http import HTTPStatus
from typing import Final

from flask import request
from werkzeug import Response
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable
from werkzeug.http import parse_date, quote_etag

_RANGE: Final = re.compile(r"bytes=\s*(?:(\d+)-(\d*)|-(\d+))\s*", re.ASCII | re.IGNORECASE)
"""One range of bytes. Of several ranges, or in another unit, the whole file is sent."""
_MAX_DIGITS: Final = 18  # enough for the size of any file


def require_version(etag: str, modified_at: datetime | None = None) -> None:
    """Refuse a request that requires another version of a resource.

    Parameters
    ----------
    etag
        The entity tag of the resource, without quotes.
    modified_at
        When the resource was changed last, to the second; ``None`` if this is not known.

    Raises
    ------
    PreconditionFailed
        The request requires another version.
    """
    if "If-Match" in request.headers:
        if not (request.if_match.star_tag or request.if_match.is_strong(etag)):
            raise PreconditionFailed
    elif request.if_unmodified_since and modified_at and modified_at > request.if_unmodified_since:
        raise PreconditionFailed


def knows_version(etag: str, modified_at: datetime | None = None) -> bool:
    """Return whether the client already has this version of a resource, so that the response is 304."""
    if "If-None-Match" in request.headers:
        return request.if_none_match.contains_weak(etag)
    since = request.if_modified_since
    return since is not None and modified_at is not None and modified_at <= since


def apply_conditions(response: Response) -> Response:
    """Apply the conditions of the request to a response that has a whole file, an entity tag and ``Last-Modified``.

    Raises
    ------
    PreconditionFailed
        The request requires another version of the file.
    RequestedRangeNotSatisfiable
        The file does not have the requested bytes.
    """
    etag, length = response.get_etag()[0] or "", response.content_length or 0
    environ = {"REQUEST_METHOD": request.method}
    try:
        require_version(etag, response.last_modified)
        if knows_version(etag, response.last_modified):
            response.status_code = HTTPStatus.NOT_MODIFIED
            return response
        wanted = _find_range(length) if _accepts_range(etag, response.last_modified) else None
    except (PreconditionFailed, RequestedRangeNotSatisfiable):
        response.close()
        raise
    if wanted is not None:
        environ["HTTP_RANGE"] = f"bytes={wanted.start}-{wanted.stop - 1}"
    return response.make_conditional(environ, accept_ranges=True, complete_length=length)


def _accepts_range(etag: str, modified_at: datetime | None) -> bool:
    """Return whether a part of this version of the file may be sent; otherwise the client wants the whole file."""
    if request.method != "GET":
        return False
    condition = request.headers.get("If-Range")
    if condition is None or condition.strip() == quote_etag(etag):
        return True
    date = parse_date(condition)
    return date is not None and date == modified_at


def _find_range(length: int) -> range | None:
    """Return the positions of the bytes that the request wants; ``None`` if it wants the whole file.

    Raises
    ------
    RequestedRangeNotSatisfiable
        The file does not have these bytes.
    """
    found = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if found is None:
        return None
    first, last, suffix = map(_parse_position, found.groups())
    if suffix is not None:
        if not suffix:
            raise RequestedRangeNotSatisfiable(length)
        return range(max(0, length - suffix), length) or None
    start = first or 0
    if last is not None and last < start:
        return None  # this is not a range, so it is ignored
    if start >= length:
        raise RequestedRangeNotSatisfiable(length)
    return range(start, length if last is None else min(last + 1, length))


def _parse_position(digits: str | None) -> int | None:
    """Parse a number of bytes. A number that is too long to be parsed is beyond the end of every file."""
    if not digits:
        return None
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS
