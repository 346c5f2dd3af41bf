"""The database's history: one line, and the tables at its end."""

import warnings
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from shared.database import Database
from shared.migrate import configure, migrate
from shared.tables import Table


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory.from_config(configure()).get_heads()) == 1


def test_the_migrated_database_is_what_the_tables_say(database: Database) -> None:
    with database.engine.connect() as connection, warnings.catch_warnings():
        # SQLite cannot tell how the queue's index orders; PostgreSQL, beside it, can.
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        cannot_tell = {"ix_jobs_queue"} if connection.dialect.name == "sqlite" else set()
        options = {"compare_type": True, "include_name": lambda name, *_: name not in cannot_tell}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Table.metadata) == []
        indexes = {index["name"] for index in inspect(connection).get_indexes("jobs")}
    assert {"ix_jobs_lease", "ix_jobs_deadline", "ix_jobs_finished"} <= indexes


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.engine.connect() as connection:
        assert "jobs" in inspect(connection).get_table_names()


def test_the_way_back_leaves_nothing(database: Database) -> None:
    config = configure()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with database.engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
