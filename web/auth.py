"""Authentication: checks the API key or the session of each request, and finds the owner of the request.

Until the first key is created, a service on loopback requires no key. From then on, and elsewhere from the start,
programs must send a key with each request. A browser must send the cookie of a session; the session began when the user
signed in with a key. A page of another origin must always send a key: neither a session nor loopback gives it access.
"""

from http import HTTPStatus
from typing import Final

from flask import Flask, g, redirect, request, url_for
from werkzeug import Response

from shared import sessions
from shared.database import queries
from shared.errors import KeyRequiredError, NotFoundError, OperatorOnlyError
from shared.jobs import ANONYMOUS, Origin
from shared.roles import Role
from shared.texts import text
from web.context import get_context, get_services
from web.cors import is_of_other_origin
from web.rate_limits import count_wrong_key
from web.session import find_session_id

OPEN_ENDPOINTS: Final = frozenset({"health.alive", "health.ready", "static", "bootstrap.static", "pages.sign_in"})
"""The endpoints that need no key."""
_READING_METHODS: Final = frozenset({"GET", "HEAD"})


def init_app(app: Flask) -> None:
    """Require API keys, and hide from each request the jobs of other keys."""
    app.before_request(_authenticate)
    app.before_request(_hide_jobs_of_others)
    app.context_processor(lambda: {"signed_in": get_owner() != ANONYMOUS})


def get_owner() -> str:
    """Return the owner of the request: the id of the request's API key, or ``ANONYMOUS`` if no key was checked."""
    return str(g.get("owner", ANONYMOUS))


def require_operator() -> None:
    """Refuse the request if its API key is not that of an operator. While no key is required, everyone is an operator.

    Raises
    ------
    OperatorOnlyError
        The request has the key of a user, or needed no key because its endpoint is open.
    """
    if g.get("role") != Role.OPERATOR:
        raise OperatorOnlyError(text("operator-only"))


def get_session_id() -> str | None:
    """Return the id of the session that admitted the request; ``None`` if the request has a key, or needs none."""
    session_id: str | None = g.get("session_id")
    return session_id


def get_visible_owner() -> str | None:
    """Return the owner whose jobs the request may see; ``None`` if the request is anonymous and may see all jobs."""
    return get_owner() or None


def get_origin() -> Origin:
    """Return the origin (owner and request id) of the jobs that the request submits."""
    return Origin(get_owner(), g.request_id)


def _authenticate() -> Response | None:
    if request.endpoint in OPEN_ENDPOINTS:
        return None
    keys = get_context().key_cache.read()
    from_other_origin = is_of_other_origin()
    if not keys.required and get_services().settings.on_loopback and not from_other_origin:
        g.role = Role.OPERATOR
        return None
    owner, session_id = None, None
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        owner = keys.find_owner(key)
        if owner is None:
            count_wrong_key(key)
    # A page of another site can make a browser send the session's cookie, so a session may only read the API.
    elif not from_other_origin and (request.method in _READING_METHODS or "api" not in request.blueprints):
        session_id = find_session_id()
        owner = sessions.find_owner(get_services().database, session_id) if session_id is not None else None
    if owner is not None and owner in keys.roles:
        g.owner, g.role, g.session_id = owner, keys.roles[owner], session_id
        return None
    if "pages" in request.blueprints and request.method in _READING_METHODS:
        return redirect(url_for("pages.sign_in", next=request.full_path.rstrip("?")), HTTPStatus.SEE_OTHER)
    raise KeyRequiredError(text("key-missing-elsewhere" if from_other_origin else "key-missing"))


def _hide_jobs_of_others() -> None:
    """If the address of the request contains the id of another owner's job, respond that the job does not exist."""
    owner, job_id = get_owner(), (request.view_args or {}).get("job_id")
    if owner == ANONYMOUS or job_id is None:
        return
    with get_services().database.reading() as reading:
        if queries.find_owner(reading, str(job_id)) != owner:
            raise NotFoundError(text("job-not-found", job=str(job_id)))
