"""The history of the database, by Alembic."""
