"""The security headers of every response."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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


def init_app(app: Flask) -> None:
    """Add ``HEADERS`` to every response."""
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
