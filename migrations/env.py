"""The entry point of Alembic: runs revisions on a given connection, or on the database that the settings name."""

from alembic import context
from sqlalchemy import Connection

from shared.database.connection import Database
from shared.database.migrate import migrating
from shared.database.tables import Base
from shared.settings import load_settings


def run() -> None:
    """Run the revisions in one transaction."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run_on(connection)
        return
    database = Database(load_settings().database)
    with migrating(database) as own_connection:
        _run_on(own_connection)
    database.close()


def _run_on(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    context.run_migrations()


run()
