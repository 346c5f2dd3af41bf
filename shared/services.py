"""What a process works with: its settings, database, file store and broker."""

from dataclasses import dataclass

from shared.broker import Broker
from shared.database.connection import Database
from shared.files.file_store import FileStore
from shared.files.registry import open_file_store
from shared.settings import Settings


@dataclass(frozen=True)
class Services:
    """What a process works with; opened once, in its main function."""

    settings: Settings
    database: Database
    files: FileStore
    broker: Broker

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Open everything that the settings name; nothing connects before it is used."""
        return cls(settings, Database(settings.database), open_file_store(settings.storage), Broker(settings))

    def close(self) -> None:
        """Close every connection."""
        self.broker.close()
        self.database.close()
