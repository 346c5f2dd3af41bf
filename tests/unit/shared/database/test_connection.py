"""Errors of the database, in the shape that all who catch them expect."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from shared.database import connection as module
from shared.database.connection import Database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.sqlite"


def test_a_lock_that_is_held_is_an_error_as_all_others(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0)
    database = Database(f"sqlite:///{file}")
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"), database.writing() as session:
            session.execute(text("SELECT 1"))
    with database.writing() as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    database.close()


def test_an_error_tells_nothing_that_was_asked_for(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    with pytest.raises(OperationalError) as caught, database.reading() as session:
        session.execute(text("SELECT * FROM nowhere WHERE url = :url"), {"url": "https://example.org/secret"})
    assert "secret" not in str(caught.value)
    database.close()
