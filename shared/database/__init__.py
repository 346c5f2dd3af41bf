"""Tables, queries and transitions of the job database, and what differs between PostgreSQL and SQLite."""
