"""What a process has at hand: its settings, database, storage and broker."""

from dataclasses import dataclass

from shared.broker import Broker
from shared.database.connection import Database
from shared.files.local import LocalFileStore
from shared.settings import Settings


@dataclass(frozen=True)
class Services:
    """What a process has at hand; made once, in its main function."""

    settings: Settings
    database: Database
    storage: LocalFileStore
    broker: Broker

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Open everything that the settings name; nothing connects before it is used."""
        return cls(settings, Database(settings.database), LocalFileStore(settings.storage), Broker(settings))

    def close(self) -> None:
        """Close every connection."""
        self.broker.close()
        self.database.close()
