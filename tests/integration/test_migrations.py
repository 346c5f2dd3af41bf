"""The database's history: one line, and the tables at its end."""

import warnings
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select

from shared.database.connection import Database
from shared.database.migrate import make_alembic_config, migrate
from shared.database.queries import JobFilter, list_jobs
from shared.database.tables import Base, Job

# As the first revision knew it: its own words, for the tables of today may have more.
_RUNNING_JOB = """
    INSERT INTO jobs (
        id, kind, state, params, labels, priority, wanted_device, attempt, max_attempts, cancel_requested,
        request_sha256, created_at, available_at, deadline_at, progress_stage, progress_done, progress_total
    ) VALUES (
        'x', 'knn', 'running', '{}', '{}', 5, 'cpu', 1, 3, false,
        '', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000',
        'evaluating', 3, 9
    )
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def downgrade(database: Database, revision: str) -> None:
    config = make_alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory.from_config(make_alembic_config()).get_heads()) == 1


def test_the_migrated_database_is_what_the_tables_say(database: Database) -> None:
    with database.engine.connect() as connection, warnings.catch_warnings():
        # SQLite cannot tell how the queue's index orders; PostgreSQL, beside it, can.
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        cannot_tell = {"ix_jobs_queue"} if connection.dialect.name == "sqlite" else set()
        options = {"compare_type": True, "include_name": lambda name, *_: name not in cannot_tell}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
        indexes = {index["name"] for index in inspect(connection).get_indexes("jobs")}
    assert {"ix_jobs_lease", "ix_jobs_deadline", "ix_jobs_finished"} <= indexes


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.engine.connect() as connection:
        assert "jobs" in inspect(connection).get_table_names()


def test_a_job_that_ran_before_its_stage_was_kept_is_still_there(database: Database) -> None:
    downgrade(database, "0001")
    with database.engine.begin() as connection:
        connection.exec_driver_sql(_RUNNING_JOB)
    migrate(database)
    with database.reading() as session:
        job = session.scalars(select(Job)).one()
    assert (job.progress_stage, job.progress_done) == ("evaluating", 3)
    assert (job.stage_started_at, job.stage_started_done) == (None, None)


def test_the_way_back_leaves_nothing(database: Database) -> None:
    downgrade(database, "base")
    with database.engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_jobs_from_before_their_labels_table_are_found_by_them(database: Database) -> None:
    downgrade(database, "0003")
    labelled = _RUNNING_JOB.replace("'{}', '{}'", """'{}', '{"who": "me", "why": "o''clock"}'""")
    with database.engine.begin() as connection:
        connection.exec_driver_sql(labelled)
    migrate(database)
    with database.reading() as session:
        for wanted, found in (({"who": "me", "why": "o'clock"}, ["x"]), ({"who": "you"}, []), ({"me": "who"}, [])):
            assert [job.id for job in list_jobs(session, JobFilter(labels=wanted), limit=9)] == found
