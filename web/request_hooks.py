"""Handles every request: gives it an id, redirects addresses that end with a slash, and refuses other sites."""

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from flask import Flask, Response, g, redirect, request
from flask.globals import request_ctx
from werkzeug import Response as AnyResponse
from werkzeug.exceptions import NotFound

from shared.errors import CrossSiteError, RequestMalformedError
from shared.ids import make_id
from shared.logs import set_log_context
from shared.texts import text
from web.cors import is_allowed_call, is_of_other_origin
from web.request_body import BodyRequest

_REQUEST_ID: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)


def init_app(app: Flask) -> None:
    """Register the functions that handle every request, and the class of requests."""
    app.request_class = BodyRequest
    app.before_request(_assign_id)
    app.before_request(_require_host)
    app.before_request(_remove_trailing_slash)
    app.before_request(_refuse_other_sites)
    app.after_request(_add_id)


def _assign_id() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else make_id()
    set_log_context(request=g.request_id, client=request.remote_addr or "")


def _require_host() -> None:
    """Refuse a request without the header ``Host``, which only HTTP/1.0 allows (RFC 9112, section 3.2)."""
    if "HTTP_HOST" not in request.environ and request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        raise RequestMalformedError(text("host-missing"))


def _remove_trailing_slash() -> AnyResponse | None:
    """Redirect an address that exists without the slash at its end; the status keeps the method and the body."""
    path = "/" + request.path.strip("/")
    adapter = request_ctx.url_adapter
    if not isinstance(request.routing_exception, NotFound) or path == request.path or adapter is None:
        return None
    if not adapter.allowed_methods(path):
        return None
    query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
    return redirect(quote(request.script_root + path) + query, HTTPStatus.PERMANENT_REDIRECT)


def _refuse_other_sites() -> None:
    """Refuse a request that a page of another site made a browser send.

    The function checks the headers ``Origin`` and ``Sec-Fetch-Site``. Only browsers send these headers. Pages of
    allowed origins may call the API; `web.auth` requires a key of them.
    """
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    same_site = request.headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
    if (not same_site or is_of_other_origin()) and not is_allowed_call():
        raise CrossSiteError(text("request-of-other-site"))


def _add_id(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    return response
