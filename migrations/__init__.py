"""The revisions of the database schema, run by Alembic."""
