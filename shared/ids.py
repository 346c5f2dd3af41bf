"""Identifiers: UUIDv7, which rise with time, so that newest first is descending order."""

from uuid import UUID

from uuid_utils import uuid7


def make_id() -> str:
    """Make a new identifier."""
    return str(uuid7())


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of this service's identifiers."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
