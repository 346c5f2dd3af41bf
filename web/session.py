"""The session of a browser: a signed cookie with the id of a session in the database, and with tokens of forms."""

from typing import Final

from flask import Flask, Request, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface

from shared import sessions
from shared.secret import derive_secret, load_secret
from web.context import get_context, get_services

_SESSION_ID: Final = "session"


class _SessionInterface(SecureCookieSessionInterface):
    """Stores sessions in cookies. If a request came over HTTPS, the browser sends the cookie over HTTPS only."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Open the session of a request.

        If the request has no cookie, the session is empty, and the signer of cookies is not made. Programs send no
        cookie.
        """
        has_cookie = self.get_cookie_name(app) in request.cookies
        return super().open_session(app, request) if has_cookie else self.session_class()

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's interface
        return request.is_secure

    def get_cookie_path(self, app: Flask) -> str:  # noqa: ARG002 - Flask's interface
        """Return the prefix under which a proxy shows the service, so that other services of the host get no cookie."""
        return request.script_root or "/"


def init_app(app: Flask) -> None:
    """Sign the cookies of sessions with a secret of this instance."""
    settings = get_context(app).services.settings
    app.secret_key = derive_secret(load_secret(settings), "sessions")
    app.session_interface = _SessionInterface()
    # Browsers send a cookie to every port of a host. Each port may have its own instance, so the cookie's
    # name contains the port.
    app.config["SESSION_COOKIE_NAME"] = f"mindjobs-{settings.port}"
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # the token of a form is valid as long as the session


def start_session(owner: str) -> bool:
    """Start a session for an API key, and end the session that the browser has.

    Returns
    -------
    Whether the session has started; it does not if the key has just been revoked.
    """
    session_id = sessions.start_session(get_services().database, owner)
    if session_id is None:
        return False
    end_session()
    session[_SESSION_ID] = session_id
    return True


def end_session() -> None:
    """End the session in the cookie of the request, for every copy of the cookie."""
    session_id = find_session_id()
    if session_id is not None:
        sessions.end_session(get_services().database, session_id)
    session.clear()


def find_session_id() -> str | None:
    """Return the id of the session in the cookie of the request; ``None`` if there is none. It may have ended."""
    session_id: str | None = session.get(_SESSION_ID)
    return session_id
