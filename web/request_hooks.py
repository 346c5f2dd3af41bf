"""Handles every request: gives the request an id, limits the size of its body, and refuses requests of other sites."""

import re
from functools import cached_property
from typing import IO, Final, cast

from flask import Flask, Request, Response, g, request
from werkzeug.wsgi import LimitedStream

from shared.errors import CrossSiteError
from shared.ids import make_id
from shared.logs import set_log_context
from shared.texts import text
from web.cors import is_allowed_call, is_of_other_origin

_REQUEST_ID: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)


class _BodyOfUnknownLength(LimitedStream):
    """A request body without Content-Length. A body that reaches the size limit is refused, not truncated."""

    def readall(self) -> bytes:
        """Read the whole body, and refuse a body that reaches the limit."""
        whole = super().readall()
        if self.is_exhausted:
            self.on_exhausted()
        return whole


class _Request(Request):
    @cached_property
    def stream(self) -> IO[bytes]:
        """The request's body. The size limit applies even to a body of unknown length."""
        if self.content_length is None and self.max_content_length and "wsgi.input_terminated" in self.environ:
            return cast("IO[bytes]", _BodyOfUnknownLength(self.input_stream, self.max_content_length, is_max=True))
        return super().stream


def init_app(app: Flask) -> None:
    """Give every request and its response an id, and refuse requests that pages of other sites send."""
    app.request_class = _Request

    @app.before_request
    def assign_id() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else make_id()
        set_log_context(request=g.request_id, client=request.remote_addr or "")

    @app.before_request
    def refuse_other_sites() -> None:
        """Refuse a request that a page of another site made a browser send.

        The function checks the headers ``Origin`` and ``Sec-Fetch-Site``. Only browsers send these headers. Pages of
        allowed origins may call the API; `web.auth` requires a key of them.
        """
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        same_site = request.headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
        if (not same_site or is_of_other_origin()) and not is_allowed_call():
            raise CrossSiteError(text("request-of-other-site"))

    @app.after_request
    def add_id(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        return response
