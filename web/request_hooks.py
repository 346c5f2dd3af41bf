"""What happens with every request: it gets an id, its body is limited, and its response gets security headers."""

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Final, cast

from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import BadRequest
from werkzeug.wsgi import LimitedStream

from shared.errors import CrossSiteError, RequestInvalidError, RequestMalformedError
from shared.ids import make_id
from shared.logs import set_log_context
from shared.schemas.problems import list_unstorable
from shared.texts import text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_WAIT_S: Final = 60
MAX_IDEMPOTENCY_KEY_LENGTH: Final = 255
_REQUEST_ID: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
HEADERS: Final = {
    # Scripts, styles and everything else are our own files; players may play a file that was just chosen on the page.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _BodyOfUnknownLength(LimitedStream):
    """A body without Content-Length. If it is read whole, it is refused at the limit and not cut there."""

    def readall(self) -> bytes:
        """See ``io.RawIOBase``."""
        whole = super().readall()
        if self.is_exhausted:
            self.on_exhausted()
        return whole


class _Request(Request):
    @cached_property
    def stream(self) -> IO[bytes]:
        """See ``werkzeug.Request``."""
        if self.content_length is None and self.max_content_length and "wsgi.input_terminated" in self.environ:
            return cast("IO[bytes]", _BodyOfUnknownLength(self.input_stream, self.max_content_length, is_max=True))
        return super().stream


def init_app(app: Flask) -> None:
    """Give every request an id, refuse those of other sites' pages, and add the headers of every response."""
    app.request_class = _Request

    @app.before_request
    def assign_id() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else make_id()
        set_log_context(request=g.request_id)

    @app.before_request
    def refuse_other_sites() -> None:
        """Refuse what a page of another site makes a browser send; programs send neither of these headers."""
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        origin = request.headers.get("Origin", "")
        same_site = request.headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
        if not same_site or (origin and origin.partition("://")[2] != request.host):
            raise CrossSiteError(text("request-of-other-site"))

    @app.after_request
    def add_id(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        return response

    app.wsgi_app = _add_headers(app.wsgi_app)  # type: ignore[method-assign, assignment]  # the way that Flask documents


def _add_headers(application: "WSGIApplication") -> "WSGIApplication":
    """Add ``HEADERS`` unless a response has its own values; Flask's ``after_request`` takes many times longer."""

    def application_with_headers(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        def start_with_headers(
            status: str,
            headers: list[tuple[str, str]],
            error: Any = None,  # noqa: ANN401 - WSGI's
        ) -> Callable[[bytes], object]:
            own = {name for name, _ in headers}
            return start(status, headers + [header for header in HEADERS.items() if header[0] not in own], error)

        return application(environ, start_with_headers)

    return application_with_headers


def read_json() -> Any:  # noqa: ANN401 - JSON can be anything
    """Return the body.

    Raises
    ------
    RequestMalformedError
        It is not JSON.
    RequestInvalidError
        It contains strings that the database cannot store.
    """
    try:
        body = request.get_json(force=True)
    except (BadRequest, RecursionError) as error:
        raise RequestMalformedError(text("body-not-json")) from error
    problems = list_unstorable(body)
    if problems:
        raise RequestInvalidError(problems)
    return body


def read_idempotency_key() -> str | None:
    """Return the header ``Idempotency-Key``.

    Raises
    ------
    RequestMalformedError
        It is empty or too long.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH:
        raise RequestMalformedError(
            text("idempotency-key-length", length=len(key), max_length=MAX_IDEMPOTENCY_KEY_LENGTH)
        )
    return key


def read_wait_s() -> int:
    """Return how long the client wants to wait, from ``Prefer: wait=N`` (RFC 7240); 0 without it."""
    found = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(int(found[1]), MAX_WAIT_S) if found else 0
