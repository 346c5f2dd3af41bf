"""Authentication: checks the API key or the session of each request, and finds the owner of the request.

While no key exists, a service on loopback requires no key. Otherwise, programs must send a key with each request. A
browser must send the cookie of a session; the session began when the user signed in with a key. A page of another
origin must always send a key: neither a session nor loopback gives it access.
"""

from http import HTTPStatus
from typing import Final

from flask import Flask, g, redirect, request, session, url_for
from werkzeug import Response

from shared.database import queries
from shared.errors import KeyRequiredError, NotFoundError
from shared.jobs import ANONYMOUS, Origin
from shared.texts import text
from web.context import get_context, get_services
from web.cors import is_of_other_origin
from web.session import SESSION_KEY

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


def get_visible_owner() -> str | None:
    """Return the owner whose jobs the request may see; ``None`` if the request is anonymous and may see all jobs."""
    return get_owner() or None


def get_origin() -> Origin:
    """Return the origin (owner and request id) of the jobs that the request submits."""
    return Origin(get_owner(), g.request_id)


def _authenticate() -> Response | None:
    if request.endpoint in OPEN_ENDPOINTS:
        return None
    key_cache = get_context().key_cache
    owners = key_cache.read()
    from_other_origin = is_of_other_origin()
    if not owners and get_services().settings.on_loopback and not from_other_origin:
        return None
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        owner = key_cache.find_owner(key)
    else:
        # A page of another site can make a browser send the session's cookie, so a session may only read the API.
        session_counts = request.method in _READING_METHODS or "api" not in request.blueprints
        session_counts = session_counts and not from_other_origin
        owner = session.get(SESSION_KEY) if session_counts else None
    if owner is not None and owner in owners.values():
        g.owner = owner
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
