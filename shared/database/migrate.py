"""Migrate the database to the latest revision: ``python -m shared.database.migrate``."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config

from shared.database.connection import Database
from shared.settings import load_settings

ROOT: Final = Path(__file__).parents[2]


def make_alembic_config() -> Config:
    """Return the configuration of Alembic."""
    config = Config(ROOT / "alembic.ini", config_args={"here": str(ROOT)})
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def migrate(database: Database, revision: str = "head") -> None:
    """Run the missing revisions, up to and including ``revision``, in one transaction."""
    config = make_alembic_config()
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


if __name__ == "__main__":
    migrate(Database(load_settings().database))
