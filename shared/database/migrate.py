"""Bring the database up to date: ``python -m shared.database.migrate``."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from shared.database.connection import Database
from shared.settings import load_settings

ROOT = Path(__file__).parents[2]
# Any number; every process that migrates must take the same.
LOCK = 5_270_140


def configure() -> Config:
    """Return Alembic's configuration."""
    return Config(ROOT / "alembic.ini", config_args={"here": str(ROOT)})


def migrate(database: Database) -> None:
    """Run the revisions that are missing, in one transaction, one process at a time."""
    config = configure()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    with database.writing() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # a long migration is no error
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


if __name__ == "__main__":
    migrate(Database(load_settings().database))
