"""What every request has: an identifier, a body that can be read or a clear answer why not, headers in its answer."""

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

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_WAIT_S: Final = 60
MAX_IDEMPOTENCY_KEY_LENGTH: Final = 255
_REQUEST_ID: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
HEADERS: Final = {
    # Scripts, styles and all else are our own files; a player may play the file that its page was just given.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _EndlessBody(LimitedStream):
    """A body that comes without its length: read whole, it is refused at the limit, and not cut there."""

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
            return cast("IO[bytes]", _EndlessBody(self.input_stream, self.max_content_length, is_max=True))
        return super().stream


def init_app(app: Flask) -> None:
    """Name every request, refuse what other sites' pages send, and add what every answer tells a browser."""
    app.request_class = _Request

    @app.before_request
    def name_request() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else make_id()
        set_log_context(request=g.request_id)

    @app.before_request
    def refuse_other_sites() -> None:
        """Refuse what another site's page makes a browser send; programs send neither of these headers."""
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        origin = request.headers.get("Origin", "")
        same_site = request.headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
        if not same_site or (origin and origin.partition("://")[2] != request.host):
            raise CrossSiteError("This came from a page of another site; open this service's own pages instead.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        return response

    app.wsgi_app = _add_headers(app.wsgi_app)  # type: ignore[method-assign, assignment]  # the way that Flask names for it


def _add_headers(answer: "WSGIApplication") -> "WSGIApplication":
    """Add what every answer tells a browser, unless it says otherwise; Flask's own way takes many times longer."""

    def answer_with_headers(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        def begin(status: str, headers: list[tuple[str, str]], error: Any = None) -> Callable[[bytes], object]:  # noqa: ANN401 - WSGI's
            own = {name for name, _ in headers}
            return start(status, headers + [header for header in HEADERS.items() if header[0] not in own], error)

        return answer(environ, begin)

    return answer_with_headers


def read_json() -> Any:  # noqa: ANN401 - JSON is anything
    """Return the body.

    Raises
    ------
    RequestMalformedError
        It is not JSON.
    """
    try:
        body = request.get_json(force=True)
    except (BadRequest, RecursionError) as error:
        raise RequestMalformedError(
            'The body is not JSON in UTF-8; send an object such as {"kind": "knn", "params": {}}.'
        ) from error
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
            f"The header Idempotency-Key has {len(key)} characters; give 1 to {MAX_IDEMPOTENCY_KEY_LENGTH}."
        )
    return key


def read_wait_s() -> int:
    """Return how long the client would wait, by ``Prefer: wait=N`` (RFC 7240); 0 without it."""
    found = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(int(found[1]), MAX_WAIT_S) if found else 0
