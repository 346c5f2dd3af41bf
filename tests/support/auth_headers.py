"""API keys, and the headers that send them."""

from flask import Flask

from shared.api_keys import create_key, revoke_key
from shared.roles import Role
from web.context import get_context

Headers = dict[str, str]


def make_auth_headers(app: Flask, name: str, role: Role = Role.USER) -> Headers:
    """Create a key that the application accepts at once, and return the headers that send it."""
    key = create_key(get_context(app).services.database, name, role=role)
    expire_key_cache(app)
    return {"Authorization": f"Bearer {key}"}


def revoke(app: Flask, name: str) -> None:
    """Revoke a key, so that the application refuses it at once."""
    revoke_key(get_context(app).services.database, name)
    expire_key_cache(app)


def expire_key_cache(app: Flask) -> None:
    """Make the application read the keys again at its next request."""
    get_context(app).key_cache.expire()
