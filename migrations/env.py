"""Alembic's entry: run the revisions on the database that the settings name."""

from alembic import context

from shared.database.connection import Database
from shared.database.tables import Base
from shared.settings import load_settings


def run() -> None:
    """Run the revisions in one transaction, on a connection handed over or on our own."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
        context.run_migrations()
        return
    database = Database(load_settings().database)
    with database.engine.begin() as own:
        context.configure(connection=own, target_metadata=Base.metadata, render_as_batch=True)
        context.run_migrations()
    database.close()


run()
