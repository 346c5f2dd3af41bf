"""The clock of the database, by which the service sets all times."""

from datetime import datetime

from sqlalchemy import select

from shared.database.connection import Database, now


def read_clock(database: Database) -> datetime:
    """Return the current time of the database.

    A time that the database sets between two calls lies between the two results, even on a slow machine.
    """
    with database.reading() as session:
        return session.execute(select(now())).scalar_one()
