"""Migrations: the revisions form one sequence, end with the tables that the code declares, and keep all data."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import IntegrityError

from shared.database import inspections, queries
from shared.database.connection import Database
from shared.database.migrate import make_alembic_config, migrate, migrating
from shared.database.queries import JobFilter, list_jobs
from shared.database.tables import Base, Delivery, Instance, Job, Key, Upload, Worker
from shared.files.keys import artifact_key, upload_key
from shared.ids import make_id
from shared.jobs import State
from shared.kinds.knn.parameters import KnnParams
from shared.maintenance import cleanup
from shared.maintenance.__main__ import sweep
from shared.roles import Role
from shared.services import Services
from shared.settings import Settings
from tests.support.disks import path_on_disk

REVISIONS: Final = ["0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011"]
OLD_REVISIONS: Final = REVISIONS[:-1]
Row = Mapping[str, Any]

# Rows for the tables of revision 0001. Later revisions add columns to these tables.
_JOB_0001: Final[Row] = {
    "kind": "knn",
    "state": "succeeded",
    "params": '{"k": 5}',
    "labels": '{"who": "me", "why": "o\'clock"}',
    "priority": 5,
    "wanted_device": "cpu",
    "device": "cpu",
    "attempt": 1,
    "max_attempts": 3,
    "cancel_requested": False,
    "request_sha256": "",
    "created_at": "2026-01-01 00:00:00.000000",
    "available_at": "2026-01-01 00:00:00.000000",
    "deadline_at": "2026-01-02 00:00:00.000000",
    "progress_stage": "evaluating",
    "progress_done": 3,
    "progress_total": 9,
    "result": '{"accuracy": 0.5}',
}
_UPLOAD_0001: Final[Row] = {
    "media_type": "text/csv",
    "filename": "table.csv",
}
_WORKER_0001: Final[Row] = {
    "name": "w1",
    "device": "cpu",
    "device_index": 0,
    "kinds": '["knn"]',
    "engines": '{"knn": "mindspore"}',
    "started_at": "2026-01-01 00:00:00.000000",
    "beat_at": "2026-01-01 00:00:00.000000",
    "beat_interval_s": 5.0,
}
_FILE: Final = b"index,label\n0,a\n"


def insert(connection: Connection, table: str, row: Row) -> None:
    """Insert a row with plain SQL: the tables of an old revision can differ from those that the code declares."""
    columns = ", ".join(row)
    values = ", ".join(f"%({name})s" if connection.dialect.name == "postgresql" else f":{name}" for name in row)
    connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) VALUES ({values})", dict(row))  # noqa: S608 - all names come from this file


def fill(connection: Connection, revision: str, job_id: str, upload_id: str) -> None:
    """Fill the tables of a revision with one job and the rows that belong to the job, one upload, and one worker."""
    owner = {"owner": "me"} if revision >= "0003" else {}
    stage = {"stage_started_at": "2026-01-01 00:00:01.000000", "stage_started_done": 1} if revision >= "0002" else {}
    webhook = {"webhook": '{"url": "https://example.org", "events": ["failed"]}'} if revision >= "0003" else {}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    size = {"bytes": len(_FILE), "sha256": hashlib.sha256(_FILE).hexdigest()}
    insert(connection, "jobs", {"id": job_id, "finished_at": now} | dict(_JOB_0001) | owner | stage | webhook)
    event = {"job_id": job_id, "at": "2026-01-01 00:00:00.000000", "kind": "state", "data": '{"state": "succeeded"}'}
    insert(connection, "job_events", event)
    artifact = {"job_id": job_id, "name": "a.csv", "path": artifact_key(job_id, 1, "a.csv"), "media_type": "text/csv"}
    insert(connection, "artifacts", artifact | size)
    upload = {"id": upload_id, "path": upload_key(upload_id), "created_at": now} | dict(_UPLOAD_0001)
    insert(connection, "uploads", upload | size | owner)
    insert(connection, "workers", _WORKER_0001)
    if revision >= "0003":
        key = {"id": make_id(), "name": "me", "sha256": "0" * 64, "created_at": "2026-01-01 00:00:00.000000"}
        insert(connection, "keys", key)
        delivery = {"id": make_id(), "owner": "me", "url": "https://example.org", "data": "{}", "attempt": 0}
        times = dict.fromkeys(("created_at", "due_at"), "2026-01-01 00:00:00.000000")
        insert(connection, "deliveries", delivery | times)
    if revision >= "0004":
        for name, value in (("who", "me"), ("why", "o'clock")):
            insert(connection, "job_labels", {"job_id": job_id, "owner": "me", "name": name, "value": value})


def list_indexes(connection: Connection) -> set[str]:
    """List the definitions of all indexes."""
    if connection.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
    return set(connection.exec_driver_sql(query).scalars())


@pytest.fixture
def open_database() -> Iterator[Callable[[str], Database]]:
    """Return a function that opens a database; every opened database is closed at the end of the test."""
    opened: list[Database] = []

    def open_it(url: str) -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()


@pytest.fixture
def database(database_url: str, open_database: Callable[[str], Database]) -> Database:
    """A migrated database."""
    return open_database(database_url)


@pytest.fixture
def empty_database(empty_database_url: str, open_database: Callable[[str], Database]) -> Database:
    return open_database(empty_database_url)


def downgrade(database: Database, revision: str) -> None:
    config = make_alembic_config()
    with migrating(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_revisions_have_one_head_and_every_revision_is_tested() -> None:
    scripts = ScriptDirectory.from_config(make_alembic_config())
    assert len(scripts.get_heads()) == 1
    assert [script.revision for script in scripts.walk_revisions()] == REVISIONS[::-1]


def test_a_migrated_database_has_the_tables_that_the_code_declares(database: Database) -> None:
    with database.engine.connect() as connection, warnings.catch_warnings():
        # The sort order in the queue's index cannot be read from SQLite, so this index is compared on PostgreSQL only.
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        skipped = {"ix_jobs_queue"} if connection.dialect.name == "sqlite" else set()
        options = {"compare_type": True, "include_name": lambda name, *_: name not in skipped}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
        indexes = {index["name"] for index in inspect(connection).get_indexes("jobs")}
    assert {"ix_jobs_lease", "ix_jobs_deadline", "ix_jobs_finished"} <= indexes


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.engine.connect() as connection:
        assert "jobs" in inspect(connection).get_table_names()


@pytest.mark.parametrize("revision", OLD_REVISIONS)
def test_an_upgrade_keeps_all_data(empty_database: Database, revision: str) -> None:
    migrate(empty_database, revision)
    job_id, upload_id = make_id(), make_id()
    with empty_database.writing() as session:
        fill(session.connection(), revision, job_id, upload_id)
    migrate(empty_database)
    with empty_database.reading() as session:
        job = queries.get_job(session, job_id)
        assert (job.kind, job.state, job.params["k"], job.result) == ("knn", "succeeded", 5, {"accuracy": 0.5})
        assert (job.progress_stage, job.progress_done) == ("evaluating", 3)
        assert job.stage_started_done == (1 if revision >= "0002" else None)
        assert (job.stage_started_at is None) == (revision < "0002")
        assert job.owner == ("me" if revision >= "0003" else "")
        assert [artifact.name for artifact in queries.list_artifacts_of(session, job_id)] == ["a.csv"]
        assert [event.data for event in queries.read_events(session, job_id, 0).events] == [{"state": "succeeded"}]
        for labels, found in (({"who": "me", "why": "o'clock"}, [job_id]), ({"who": "you"}, []), ({"me": "who"}, [])):
            assert [job.id for job in list_jobs(session, JobFilter(labels=labels), limit=9)] == found
        assert [*queries.find_uploads(session, [upload_id])] == [upload_id]
        (worker,) = session.scalars(select(Worker)).all()
        assert (worker.engines, worker.precisions) == ({"knn": "mindspore"}, {})
        for table in (Key, Delivery):
            assert session.scalar(select(func.count()).select_from(table)) == (1 if revision >= "0003" else 0)


def test_a_downgrade_keeps_the_rows_of_the_tables_that_remain(database: Database) -> None:
    job_id, upload_id = make_id(), make_id()
    with database.writing() as session:
        fill(session.connection(), REVISIONS[-1], job_id, upload_id)
        session.execute(Worker.metadata.tables["workers"].update().values(precisions={"knn": ["float32"]}))
    for revision in OLD_REVISIONS[::-1]:
        downgrade(database, revision)
        with database.engine.connect() as connection:
            for table in ("jobs", "job_events", "artifacts", "uploads", "workers"):
                query = select(func.count()).select_from(sqlalchemy.table(table))
                assert connection.scalar(query) == 1, (revision, table)
    migrate(database)
    with database.reading() as session:
        assert list_jobs(session, JobFilter(labels={"who": "me"}), limit=9)[0].id == job_id


def test_a_downgrade_to_the_base_leaves_no_tables(database: Database) -> None:
    downgrade(database, "base")
    with database.engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_revision_0005_removes_the_check_of_the_kind_from_the_table_jobs_and_nothing_else(
    empty_database: Database,
) -> None:
    migrate(empty_database, "0004")
    with empty_database.engine.connect() as connection:
        indexes = list_indexes(connection)
    migrate(empty_database, "0005")
    with empty_database.writing() as session:
        assert list_indexes(session.connection()) == indexes
        insert(session.connection(), "jobs", {"id": "x"} | dict(_JOB_0001) | {"kind": "any-kind"})
    with pytest.raises(IntegrityError, match="state"), empty_database.writing() as session:
        insert(session.connection(), "jobs", {"id": "y"} | dict(_JOB_0001) | {"state": "any-state"})
    with pytest.raises(IntegrityError), empty_database.writing() as session:
        insert(session.connection(), "job_labels", {"job_id": "z", "owner": "", "name": "a", "value": "b"})
    with empty_database.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM jobs")
    downgrade(empty_database, "0004")
    with empty_database.engine.connect() as connection:
        assert list_indexes(connection) == indexes
    with pytest.raises(IntegrityError, match="kind"), empty_database.writing() as session:
        insert(session.connection(), "jobs", {"id": "x"} | dict(_JOB_0001) | {"kind": "any-kind"})


_TABLE_0008: Final = {"upload": "u", "label": "species", "header": False}
_KFOLD_0008: Final = {"method": "kfold", "folds": 5, "repeats": 2, "seed": 3}
_COMMON_0008: Final = {"task": "regression", "k": [1, 3], "metric": "minkowski", "p": 3.0, "weights": "distance"}
_OLD_TABLE: Final[dict[str, Any]] = {
    "delimiter": ",",
    "decimal": ".",
    "encoding": "utf-8",
    "sheet": None,
    "columns": None,
    "exclude": [],
    "text_columns": "refuse",
    "missing": "refuse",
}


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (
            "knn",
            _COMMON_0008 | {"dataset": _TABLE_0008, "evaluation": _KFOLD_0008},
            _COMMON_0008
            | {"ties": "order", "dataset": _TABLE_0008 | _OLD_TABLE, "evaluation": _KFOLD_0008 | {"stratify": False}},
        ),
        (
            "knn",
            _COMMON_0008 | {"dataset": {"name": "wine"}, "evaluation": {"method": "loo"}},
            _COMMON_0008 | {"ties": "order", "dataset": {"name": "wine"}, "evaluation": {"method": "loo"}},
        ),
        (
            "knn",
            {"k": 5},
            {
                "k": 5,
                "ties": "order",
                "task": "classification",
                "evaluation": {"method": "holdout", "train_size": 128, "seed": 0, "stratify": False},
            },
        ),
        ("musicgen", {"prompts": ["a"]}, {"prompts": ["a"]}),
    ],
    ids=["upload", "leave-one-out", "incomplete", "music"],
)
def test_revision_0009_keeps_the_meaning_of_the_parameters_of_stored_jobs(
    empty_database: Database, kind: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    migrate(empty_database, "0008")
    ids = [f"job-{number:04}" for number in range(1_002)]  # more than are changed at once
    with empty_database.writing() as session:
        for job_id in ids:
            row = dict(_JOB_0001) | {"id": job_id, "kind": kind, "params": json.dumps(before)}
            insert(session.connection(), "jobs", row)
    migrate(empty_database, "0009")
    with empty_database.reading() as session:
        for job_id in ids:
            assert session.execute(select(Job.params).where(Job.id == job_id)).scalar_one() == after
    if kind == "knn":
        assert KnnParams.model_validate(after).ties == "order"
    downgrade(empty_database, "0008")
    with empty_database.reading() as session:
        stored = session.execute(select(Job.params).where(Job.id == ids[-1])).scalar_one()
        assert stored | before == stored  # nothing is lost
        assert not {"ties", "stratify"} & ({*stored} | {*stored.get("evaluation", {})})
        assert stored.get("dataset") == before.get("dataset")


def test_a_failed_migration_changes_nothing_and_foreign_keys_are_still_enforced(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_database, "0004")

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("alembic.op.add_column", fail)  # the last operation of revision 0005
    with pytest.raises(ZeroDivisionError):
        migrate(empty_database)
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="kind"), empty_database.writing() as session:
        insert(session.connection(), "jobs", {"id": "x"} | dict(_JOB_0001) | {"kind": "any-kind"})
    with pytest.raises(IntegrityError), empty_database.writing() as session:
        insert(session.connection(), "job_labels", {"job_id": "z", "owner": "", "name": "a", "value": "b"})


@pytest.mark.parametrize("keys", [[], ["ada", "bob"]])
def test_revision_0006_makes_existing_keys_those_of_users_and_remembers_that_keys_exist(
    empty_database: Database, keys: list[str]
) -> None:
    migrate(empty_database, "0005")
    with empty_database.writing() as session:
        for name in keys:
            row = {"id": make_id(), "name": name, "sha256": "0" * 64, "created_at": "2026-01-01 00:00:00.000000"}
            insert(session.connection(), "keys", row)
    migrate(empty_database)
    with empty_database.reading() as session:
        assert session.scalars(select(Key.role)).all() == [Role.USER for _ in keys]
        assert session.scalars(select(Instance.keys_required)).all() == [bool(keys)]
    downgrade(empty_database, "0005")
    with empty_database.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(sqlalchemy.table("keys"))) == len(keys)


@pytest.mark.parametrize(
    ("media_type", "filename", "kind", "state"),
    [
        ("text/csv", None, "table", "pending"),
        ("text/csv", "talk.mp3", "table", "pending"),
        ("application/octet-stream", "Sales.XLSX", "table", "pending"),
        ("application/octet-stream", "table.csv.gz", "table", "pending"),
        ("audio/mpeg", "music.csv", "audio", None),
        ("application/octet-stream", "picture.png", "unknown", None),
        ("application/octet-stream", None, "unknown", None),
    ],
)
def test_revision_0008_lets_existing_uploads_that_may_be_tables_be_inspected(
    empty_database: Database, media_type: str, filename: str | None, kind: str, state: str | None
) -> None:
    migrate(empty_database, "0007")
    upload_id = make_id()
    row = {"id": upload_id, "path": "x", "media_type": media_type, "filename": filename, "bytes": 1, "sha256": ""}
    with empty_database.writing() as session:
        insert(session.connection(), "uploads", row | {"created_at": "2026-01-01 00:00:00.000000"})
    migrate(empty_database, "0008")
    with empty_database.reading() as session:
        upload = queries.find_uploads(session, [upload_id])[upload_id]
    assert (upload.kind, upload.inspection_state, upload.inspection_attempt) == (kind, state, 0)
    claimed = inspections.claim(empty_database, "", ["table"], 60.0)
    assert (claimed is not None) == (state == "pending")


@pytest.mark.parametrize(
    ("kind", "filename", "state", "expected"),
    [
        ("audio", "clip.wav", None, ("audio", "pending")),
        ("audio", None, None, ("audio", "pending")),
        ("unknown", "memo.M4A", None, ("audio", "pending")),
        ("unknown", "picture.png", None, ("unknown", None)),
        ("unknown", None, None, ("unknown", None)),
        ("table", "clip.wav", "ready", ("table", "ready")),
    ],
)
def test_revision_0010_lets_existing_uploads_that_may_be_audio_be_inspected(
    empty_database: Database, kind: str, filename: str | None, state: str | None, expected: tuple[str, str | None]
) -> None:
    migrate(empty_database, "0009")
    with empty_database.writing() as session:
        row = dict(_UPLOAD_0001) | {
            "path": "x",
            "created_at": "2026-01-01 00:00:00.000000",
            "id": "u",
            "owner": "",
            "kind": kind,
            "filename": filename,
            "inspection_state": state,
            "bytes": 1,
            "sha256": "",
        }
        insert(session.connection(), "uploads", row)
    migrate(empty_database)
    with empty_database.reading() as session:
        upload = session.scalars(select(Upload)).one()
        assert (upload.kind, upload.inspection_state) == expected
    downgrade(empty_database, "0009")
    with empty_database.reading() as session:
        upload = session.scalars(select(Upload)).one()
        assert (upload.kind, upload.inspection_state) == (expected[0], None if expected[0] == "audio" else expected[1])


@pytest.mark.parametrize(
    ("row", "amount"),
    [
        ({"kind": "musicgen", "state": "queued", "params": {"duration_s": 4.0, "prompts": ["a", "b"]}}, 8.0),
        ({"kind": "musicgen", "state": "running", "params": {"max_new_tokens": 100, "num_samples": 3}}, 6.0),
        ({"kind": "musicgen", "state": "queued", "params": {"audio_prompts": [{}, {}]}}, 20.0),
        ({"kind": "musicgen", "state": "failed", "params": {"duration_s": 4.0}}, None),
        ({"kind": "knn", "state": "queued", "params": {}}, None),
    ],
)
def test_revision_0011_measures_music_that_has_not_ended(
    empty_database: Database, row: dict[str, Any], amount: float | None
) -> None:
    migrate(empty_database, "0009")
    with empty_database.writing() as session:
        stored = dict(_JOB_0001) | row | {"id": "job", "params": json.dumps(row["params"])}
        insert(session.connection(), "jobs", stored)
    migrate(empty_database)
    with empty_database.reading() as session:
        assert session.scalars(select(Job.amount)).all() == [amount]
    downgrade(empty_database, "0009")


@pytest.mark.parametrize("revision", OLD_REVISIONS)
def test_jobs_and_files_of_an_old_revision_are_kept_by_the_migration_and_then_by_the_sweeper(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    open_services: Callable[[Settings], Services],
    redis_server: Any,
    revision: str,
) -> None:
    monkeypatch.chdir(tmp_path)  # so that a developer's .env is not read
    settings = Settings(home=tmp_path / "home", redis_url=redis_server.url)
    services = open_services(settings)
    migrate(services.database, revision)
    job_id, upload_id = make_id(), make_id()
    with services.database.writing() as session:
        fill(session.connection(), revision, job_id, upload_id)
    for key in (upload_key(upload_id), artifact_key(job_id, 1, "a.csv")):
        services.files.put(key, [_FILE])
        os.utime(path_on_disk(services.files, key), (0, 0))

    migrate(services.database)
    sweep(services)
    cleanup.clean_up(services)
    with services.database.reading() as session:
        assert queries.get_job(session, job_id).state == State.SUCCEEDED
        artifact = queries.get_artifact(session, job_id, "a.csv")
        upload = queries.find_uploads(session, [upload_id])[upload_id]
    for key in (artifact.key, upload.key):
        with services.files.open(key) as file:
            assert file.read() == _FILE
