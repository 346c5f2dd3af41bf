"""Sessions of browsers, which begin when a person signs in with an API key. Only hashes of their ids are stored.

The web keeps the id of a session in a signed cookie. The row of the session decides whether the cookie is still valid,
in every web process: signing out deletes the row, and revoking the key deletes the rows of all its sessions.
"""

import secrets
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from shared.api_keys import hash_key
from shared.database.connection import Database, now
from shared.database.tables import BrowserSession

LIFETIME_S: Final = 30 * 86_400.0
"""How long a session lasts if nobody signs out."""
_BYTES: Final = 32


def start_session(database: Database, owner: str) -> str | None:
    """Start a session for an API key.

    Returns
    -------
    The id of the session, which cannot be read again later; ``None`` if the key has just been revoked.
    """
    session_id = secrets.token_urlsafe(_BYTES)
    row = insert(BrowserSession).values(
        sha256=hash_key(session_id), owner=owner, created_at=now(), expires_at=now(LIFETIME_S)
    )
    try:
        with database.writing() as session:
            session.execute(row)
    except IntegrityError:
        return None
    return session_id


def find_owner(database: Database, session_id: str) -> str | None:
    """Return the id of the API key of a session; ``None`` if the session has ended."""
    found = select(BrowserSession.owner).where(
        BrowserSession.sha256 == hash_key(session_id), BrowserSession.expires_at > now()
    )
    with database.reading() as session:
        return session.scalars(found).one_or_none()


def end_session(database: Database, session_id: str) -> None:
    """End a session; do nothing if it has already ended."""
    with database.writing() as session:
        session.execute(delete(BrowserSession).where(BrowserSession.sha256 == hash_key(session_id)))
