"""Cross-origin resource sharing: the pages of some other origins may call the API, with an API key.

`MINDJOBS_CORS_ORIGINS` names these origins. Their pages get no authority from cookies: no response allows credentials,
and `web.auth` requires a key in ``Authorization`` of every request of another origin, even on loopback while no key
exists, where everyone else may do everything.
"""

from http import HTTPStatus
from typing import Final

from flask import Flask, Response, request

from web.context import get_context, get_services

_API: Final = "/api/v1/"
MAX_AGE_S: Final = 600
"""How long a browser may keep the answer to a preflight request."""
METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS: Final = (
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Match, "
    "If-Range, Last-Event-ID, Prefer, Range, X-Request-ID"
)
"""The headers that a page may send, in addition to those that every page may send."""
RESPONSE_HEADERS: Final = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, Preference-Applied, Retry-After, "
    "WWW-Authenticate, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Reset-After, "
    "X-Request-ID"
)
"""The headers that a page may read, in addition to those that every page may read."""


def is_of_other_origin() -> bool:
    """Return whether a page of another origin made a browser send the request, as its header ``Origin`` says."""
    origin = request.headers.get("Origin", "")
    return bool(origin) and origin.partition("://")[2] != request.host


def is_allowed_call() -> bool:
    """Return whether the request is a call of the API by a page of an allowed origin."""
    origins = get_services().settings.allowed_origins
    return bool(origins) and request.path.startswith(_API) and request.headers.get("Origin") in origins


def init_app(app: Flask) -> None:
    """Answer the questions of browsers whether a page may call the API, and let allowed pages read the responses."""
    if not get_context(app).services.settings.allowed_origins:
        return

    @app.before_request
    def answer_preflight() -> Response | None:
        """Answer before a key is required: browsers send no key with a preflight request."""
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_preflight or not is_allowed_call():
            return None
        response = Response(status=HTTPStatus.NO_CONTENT)
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return response

    @app.after_request
    def add_headers(response: Response) -> Response:
        if request.path.startswith(_API):
            response.vary.add("Origin")
        if is_allowed_call():
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response
