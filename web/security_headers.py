"""The security headers of every response."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADERS: Final = {
    # Scripts, styles and all other files come from this server. In addition, a player on a page may play a file that
    # the user has just chosen there.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def init_app(app: Flask) -> None:
    """Add ``HEADERS`` to every response."""
    app.wsgi_app = _add_headers(app.wsgi_app)  # type: ignore[method-assign, assignment]  # the way that Flask documents


def _add_headers(application: "WSGIApplication") -> "WSGIApplication":
    """Add each of ``HEADERS`` to a response, unless the response already has a header of this name.

    Flask's ``after_request`` would take many times longer.
    """

    def application_with_headers(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        def start_with_headers(
            status: str,
            headers: list[tuple[str, str]],
            error: Any = None,  # noqa: ANN401 - WSGI's interface
        ) -> Callable[[bytes], object]:
            own = {name for name, _ in headers}
            return start(status, headers + [header for header in HEADERS.items() if header[0] not in own], error)

        return application(environ, start_with_headers)

    return application_with_headers
