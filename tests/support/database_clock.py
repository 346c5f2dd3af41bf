"""The clock of the database, by which the service sets all times."""

from datetime import datetime

from sqlalchemy import select

from shared.database.connection import Database, now


def read_clock(database: Database) -> datetime:
    """Return the time. What the database sets in between lies between two readings, however long it took."""
    with database.reading() as session:
        return session.execute(select(now())).scalar_one()
