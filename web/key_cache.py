"""The API keys, read from the database every few seconds instead of once per request."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared import api_keys
from shared.database.connection import Database
from shared.jobs import ANONYMOUS
from shared.roles import Role

MAX_AGE_S: Final = 2.0
"""How long a process uses the keys that it has read. A revoked key may still be accepted for this long."""


@dataclass(frozen=True)
class Keys:
    """The API keys.

    Parameters
    ----------
    owners
        The owner of each key, keyed by the hash of the key.
    roles
        The role of each key, keyed by its owner.
    required
        Whether a service on loopback requires keys.
    """

    owners: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    required: bool = True

    def find_owner(self, key: str) -> str | None:
        """Return the owner of a key; ``None`` if the key is unknown."""
        return self.owners.get(api_keys.hash_key(key.strip()))


class KeyCache:
    """The API keys as they were at the last read from the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._keys = Keys()
        self._error: SQLAlchemyError | None = None

    def read(self) -> Keys:
        """Return the API keys.

        Raises
        ------
        SQLAlchemyError
            The last read failed. All requests get this error until the next read, ``MAX_AGE_S`` later.
        """
        with self._lock:
            if time.monotonic() - self._read_at > MAX_AGE_S:
                self._refresh()
            if self._error is not None:
                raise self._error
            return self._keys

    def _refresh(self) -> None:
        try:
            keys = api_keys.list_keys(self._database)
            self._keys = Keys(
                {key.sha256: key.id for key in keys},
                {key.id: Role(key.role) for key in keys},
                bool(keys) or api_keys.are_keys_required(self._database),
            )
            self._error = None
        except SQLAlchemyError as error:
            self._error = error
        self._read_at = time.monotonic()

    def expire(self) -> None:
        """Make the next request read the keys again."""
        self._read_at = float("-inf")

    def is_valid(self, owner: str) -> bool:
        """Return whether the key of an owner exists. The anonymous owner is valid while no key is required."""
        keys = self.read()
        return owner in keys.roles if owner != ANONYMOUS else not keys.required
