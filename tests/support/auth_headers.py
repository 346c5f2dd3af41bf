"""Whoever has a key, and how they send it."""

from flask import Flask

from shared.api_keys import create_key, revoke_key
from shared.services import Services
from web.context import get_context

Headers = dict[str, str]


def make_auth_headers(app: Flask, name: str) -> Headers:
    """Make a key that the application knows at once, and return the headers that bring it."""
    services: Services = get_context(app).services
    key = create_key(services.database, name)
    expire_key_cache(app)
    return {"Authorization": f"Bearer {key}"}


def revoke(app: Flask, name: str) -> None:
    """Revoke a key, of which the application knows at once."""
    services: Services = get_context(app).services
    revoke_key(services.database, name)
    expire_key_cache(app)


def expire_key_cache(app: Flask) -> None:
    """Make as much time pass as an application goes by the keys that it has read."""
    get_context(app).key_cache.expire()
