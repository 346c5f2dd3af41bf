"""Identifiers are UUIDv7, which rise with time: in descending order, the newest identifier comes first."""

from uuid import UUID

from uuid_utils import uuid7


def make_id() -> str:
    """Make a new identifier."""
    return str(uuid7())


def is_id(text: str) -> bool:
    """Return whether a text has the form of an identifier of this service."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
