"""Who may come in, and whose a request is.

On loopback, and as long as there is no key, everybody may. Otherwise a request
brings a key: programs in each request, browsers in a session that began with one.
"""

import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from flask import Flask, Request, current_app, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from sqlalchemy.exc import SQLAlchemyError
from werkzeug import Response

from shared import api_keys
from shared.database import queries
from shared.database.connection import Database
from shared.errors import KeyRequiredError, NotFoundError
from shared.jobs import ANONYMOUS, Origin
from web.context import get_services

FRESH_S: Final = 2.0
"""How long a process goes by the keys that it has read: so long a revoked one may still open."""
OPEN_ENDPOINTS: Final = frozenset({"health.alive", "health.ready", "static", "bootstrap.static", "pages.sign_in"})
SESSION_KEY: Final = "key"
_LOOKS: Final = frozenset({"GET", "HEAD"})


class KeyCache:
    """The keys, as they were a moment ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._owners: Mapping[str, str] = {}
        self._error: SQLAlchemyError | None = None

    def read(self) -> Mapping[str, str]:
        """Return hash to owner, of every key.

        Raises
        ------
        SQLAlchemyError
            The database does not answer, or did not a moment ago: those who waited for this answer do not ask anew.
        """
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                self._look()
            if self._error is not None:
                raise self._error
            return self._owners

    def _look(self) -> None:
        try:
            self._owners = {key.sha256: key.id for key in api_keys.list_keys(self._database)}
            self._error = None
        except SQLAlchemyError as error:
            self._error = error
        self._read_at = time.monotonic()

    def find_owner(self, key: str) -> str | None:
        """Return whose a key is; ``None`` where it is nobody's."""
        return self.read().get(api_keys.hash_key(key.strip()))

    def knows(self, owner: str) -> bool:
        """Whether an owner's key is there; nobody's is as long as no other is."""
        owners = self.read()
        return owner in owners.values() if owner != ANONYMOUS else not owners


class _Sessions(SecureCookieSessionInterface):
    """Session cookies that travel by HTTPS only, where the request did."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Make no signer for programs, which have no cookie to look at."""
        named = self.get_cookie_name(app) in request.cookies
        return super().open_session(app, request) if named else self.session_class()

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's interface
        return request.is_secure


def init_app(app: Flask) -> None:
    """Ask every request for its key, and keep it from what belongs to others."""
    services = app.extensions["mindjobs"]
    app.extensions["mindjobs.keys"] = KeyCache(services.database)
    app.secret_key = api_keys.derive_secret(api_keys.load_secret(services.settings), "sessions")
    app.session_interface = _Sessions()
    # Browsers send cookies to every port of a host, and each may have an instance of its own.
    app.config["SESSION_COOKIE_NAME"] = f"mindjobs-{services.settings.port}"
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.before_request(_admit)
    app.before_request(_hide_what_is_not_theirs)
    app.context_processor(lambda: {"signed_in": get_owner() != ANONYMOUS})


def get_owner() -> str:
    """Return whose this request is."""
    return str(g.get("owner", ANONYMOUS))


def get_visible_owner() -> str | None:
    """Return whose jobs this request may see: where there are no keys, all are everybody's."""
    return get_owner() or None


def get_origin() -> Origin:
    """Return where what this request submits comes from."""
    return Origin(get_owner(), g.request_id)


def get_key_cache() -> KeyCache:
    """Return the application's keys."""
    ring: KeyCache = current_app.extensions["mindjobs.keys"]
    return ring


def _admit() -> Response | None:
    if request.endpoint in OPEN_ENDPOINTS:
        return None
    owners = get_key_cache().read()
    if not owners and get_services().settings.on_loopback:
        return None
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        owner = get_key_cache().find_owner(key)
    else:
        # What a program does with a cookie could be another site's doing, so it may only look.
        may_look = request.method in _LOOKS or request.blueprint != "api"
        owner = session.get(SESSION_KEY) if may_look else None
    if owner is not None and owner in owners.values():
        g.owner = owner
        return None
    if request.blueprint == "pages" and request.method in _LOOKS:
        return redirect(url_for("pages.sign_in", next=request.full_path.rstrip("?")), HTTPStatus.SEE_OTHER)
    raise KeyRequiredError(
        "Send a key of this instance in the header Authorization: Bearer KEY; "
        "whoever runs it makes one by python -m web keys create NAME."
    )


def _hide_what_is_not_theirs() -> None:
    """Treat other owners' jobs, wherever an address names one, as not there."""
    owner, job_id = get_owner(), (request.view_args or {}).get("job_id")
    if owner == ANONYMOUS or job_id is None:
        return
    with get_services().database.reading() as reading:
        if queries.find_owner(reading, str(job_id)) != owner:
            raise NotFoundError(f"There is no job {job_id}.")
