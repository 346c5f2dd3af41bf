"""The services that a process uses: settings, database, file store and broker."""

from dataclasses import dataclass

from shared.broker import Broker
from shared.database.connection import Database
from shared.database.patience import WORKER, Patience
from shared.files.file_store import FileStore
from shared.files.registry import open_file_store
from shared.settings import Settings


@dataclass(frozen=True)
class Services:
    """The services that a process uses. Each process opens the services once, at its start."""

    settings: Settings
    database: Database
    files: FileStore
    broker: Broker

    @classmethod
    def open(cls, settings: Settings, patience: Patience = WORKER) -> "Services":
        """Open the services that the settings describe. Each service connects only at its first use.

        Parameters
        ----------
        patience
            How long to wait for the database.
        """
        return cls(settings, Database(settings.database, patience), open_file_store(settings.storage), Broker(settings))

    def close(self) -> None:
        """Close every connection."""
        self.broker.close()
        self.database.close()
