"""The types of database errors, and messages that reveal no secret values."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from shared.database.connection import Database
from shared.database.patience import WEB
from shared.errors import SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.sqlite"


def test_lock_held_by_another_connection_raises_an_operational_error(
    file: Path,
) -> None:
    database = Database(f"sqlite:///{file}", replace(WEB, lock_s=0))
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"), database.writing() as session:
            session.execute(text("SELECT 1"))
    with database.writing() as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    database.close()


def test_error_message_contains_no_parameters(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    with pytest.raises(OperationalError) as caught, database.reading() as session:
        session.execute(text("SELECT * FROM nowhere WHERE url = :url"), {"url": "https://example.org/secret"})
    assert "secret" not in str(caught.value)
    database.close()


@pytest.mark.parametrize(
    ("url", "code"),
    [("nonsense", "database-url-invalid"), ("mysql://host/name", "database-scheme-unknown")],
)
def test_unsupported_address_is_refused(url: str, code: str) -> None:
    with pytest.raises(SettingsError, match="MINDJOBS_DATABASE_URL") as caught:
        Database(url)
    assert caught.value.text.code == code
