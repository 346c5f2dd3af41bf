"""Migrate the database to the latest revision: ``python -m shared.database.migrate``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from shared.database.connection import Database, get_sqlite_driver
from shared.settings import load_settings
from shared.state_folder import protect_state

ROOT: Final = Path(__file__).parents[2]
_MIGRATION_LOCK: Final = 5_270_140
"""The number of the PostgreSQL lock for migrations. It is arbitrary, but every process must use the same number."""


def make_alembic_config() -> Config:
    """Return the configuration of Alembic."""
    config = Config(ROOT / "alembic.ini", config_args={"here": str(ROOT)})
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def migrate(database: Database, revision: str = "head") -> None:
    """Run the missing revisions, up to and including ``revision``, in one transaction."""
    config = make_alembic_config()
    with migrating(database) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@contextmanager
def migrating(database: Database) -> Iterator[Connection]:
    """Open a transaction that may change the definitions of tables.

    If several processes open such a transaction, each waits until the transaction of the other has ended. The
    transaction has no time limit. It is committed at the end of the block, or rolled back by an exception.
    """
    with database.writer.connect() as connection, _suspended_foreign_keys(connection), connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        yield connection
        if connection.dialect.name == "sqlite":
            _check_foreign_keys(connection)


@contextmanager
def _suspended_foreign_keys(connection: Connection) -> Iterator[None]:
    """Do not enforce SQLite's foreign keys in the transaction that begins within the block.

    On SQLite, a migration changes a table by copying the table and dropping the original. With enforced foreign keys,
    dropping the original would delete every row of another table that refers to a row of the original. The setting is
    changed before the transaction begins, because SQLite ignores a change of this setting within a transaction.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = get_sqlite_driver(connection)
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def _check_foreign_keys(connection: Connection) -> None:
    violations = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if violations:
        raise RuntimeError(f"the migration would leave rows that refer to missing rows: {violations[:5]}")


def main() -> None:
    """Migrate the database of this instance."""
    settings = load_settings()
    protect_state(settings)
    migrate(Database(settings.database))


if __name__ == "__main__":
    main()
