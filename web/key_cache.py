"""The API keys, read from the database every few seconds instead of once per request."""

import threading
import time
from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared import api_keys
from shared.database.connection import Database
from shared.jobs import ANONYMOUS

MAX_AGE_S: Final = 2.0
"""How long a process uses the keys that it has read. A revoked key may still be accepted for this long."""


class KeyCache:
    """The API keys as they were at the last read from the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._owners: Mapping[str, str] = {}
        self._error: SQLAlchemyError | None = None

    def read(self) -> Mapping[str, str]:
        """Return a mapping from the hash of each API key to its owner.

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
            return self._owners

    def _refresh(self) -> None:
        try:
            self._owners = {key.sha256: key.id for key in api_keys.list_keys(self._database)}
            self._error = None
        except SQLAlchemyError as error:
            self._error = error
        self._read_at = time.monotonic()

    def expire(self) -> None:
        """Make the next request read the keys again."""
        self._read_at = float("-inf")

    def find_owner(self, key: str) -> str | None:
        """Return the owner of a key; ``None`` if the key is unknown."""
        return self.read().get(api_keys.hash_key(key.strip()))

    def is_valid(self, owner: str) -> bool:
        """Return whether the key of an owner exists. The anonymous owner is valid while no key exists."""
        owners = self.read()
        return owner in owners.values() if owner != ANONYMOUS else not owners
