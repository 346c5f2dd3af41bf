"""``python -m web keys`` creates, lists and revokes API keys, on both databases."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from shared import api_keys
from shared.database.migrate import ROOT
from shared.database.tables import Job, Key, Upload
from shared.jobs import ANONYMOUS
from shared.services import Services
from shared.settings import Settings
from shared.webhooks.messages import load_signing_secret
from tests.support.processes import make_environment
from web import create_app
from web.__main__ import main
from web.context import get_context

WINE = {"kind": "knn", "device": "cpu"}


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a command."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


@pytest.fixture
def run_keys(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs ``python -m web keys`` in this process: many new processes would be slow."""

    def run(*words: str, settings: Settings = settings) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["web", "keys", *words])
        for name, value in make_environment(settings).items():
            monkeypatch.setenv(name, value)
        said: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            said = end.code
        printed = capsys.readouterr()
        if isinstance(said, str):  # Python itself would print this message and exit with 1
            return Outcome(1, printed.out, printed.err + said)
        return Outcome(said or 0, printed.out, printed.err)

    return run


def make_key(run_keys: Run, name: str, *options: str) -> str:
    """Create a key and return the key."""
    made = run_keys("create", name, *options)
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()[0]


def ask(client: FlaskClient, key: str) -> int:
    return client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code


def test_created_key_is_printed_and_accepted_and_only_its_hash_is_stored(
    run_keys: Run, services: Services, client: FlaskClient
) -> None:
    made = run_keys("create", "laptop")
    key = made.stdout.splitlines()[0]
    assert re.fullmatch(r"mj_[\w-]{43}", key)
    assert ask(client, key) == HTTPStatus.OK
    assert ask(client, key[:-1]) == HTTPStatus.UNAUTHORIZED
    with services.database.reading() as session:
        row = session.scalars(select(Key)).one()
    assert row.sha256 == api_keys.hash_key(key)
    assert key not in {row.id, row.name, row.sha256}
    assert made.stdout.splitlines()[-1].endswith(load_signing_secret(services.settings, row.id))


def test_names_of_keys_are_listed_and_a_revoked_key_is_refused(run_keys: Run, app: Flask, settings: Settings) -> None:
    assert run_keys("list").stdout == ""
    first, second = make_key(run_keys, "first"), make_key(run_keys, "second")
    listed = run_keys("list").stdout
    assert [line.split()[-1] for line in listed.splitlines()] == ["first", "second"]
    assert "mj_" not in listed
    assert [ask(app.test_client(), key) for key in (first, second)] == [HTTPStatus.OK, HTTPStatus.OK]
    assert run_keys("revoke", "first").stdout == "The key first is revoked.\n"
    assert run_keys("list").stdout.split()[-1] == "second"
    later = create_app(settings)  # a new application, whose cache does not have the revoked key
    assert [ask(later.test_client(), key) for key in (first, second)] == [HTTPStatus.UNAUTHORIZED, HTTPStatus.OK]
    get_context(later).services.close()


def test_name_of_an_existing_key_is_refused(run_keys: Run) -> None:
    make_key(run_keys, "laptop")
    again = run_keys("create", "laptop")
    assert (again.returncode, again.stdout) == (1, "")
    assert "There is already a key 'laptop'. Choose another name, or revoke that key." in again.stderr
    assert len(run_keys("list").stdout.splitlines()) == 1


@pytest.mark.parametrize("name", ["", "x" * 256, "two\nlines"])
def test_name_that_is_not_one_line_of_1_to_255_characters_is_refused(run_keys: Run, name: str) -> None:
    refused = run_keys("create", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "a name is one line of 1 to 255 characters" in refused.stderr


@pytest.mark.parametrize("action", ["revoke", "secret"])
def test_unknown_key_is_reported_with_its_name(run_keys: Run, action: str) -> None:
    missing = run_keys(action, "laptop")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "There is no key 'laptop'" in missing.stderr


def test_new_key_can_adopt_anonymous_jobs_and_uploads(run_keys: Run, client: FlaskClient, services: Services) -> None:
    job: Any = client.post("/api/v1/jobs", json=WINE).json
    client.post("/api/v1/uploads", data={"file": (BytesIO(b"k,a\nx,1\ny,2\n"), "table.csv")})
    make_key(run_keys, "stranger")
    adopting = make_key(run_keys, "owner", "--adopt")
    owner = api_keys.find_key(services.database, "owner").id
    with services.database.reading() as session:
        assert session.scalars(select(Job.owner)).all() == [owner]
        assert session.scalars(select(Upload.owner)).all() == [owner]
    make_key(run_keys, "late", "--adopt")  # no anonymous job or upload is left to adopt
    with services.database.reading() as session:
        assert session.scalars(select(Job.owner)).all() == [owner]
    found: Any = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {adopting}"}).json
    assert [one["id"] for one in found["jobs"]] == [job["id"]]


def test_webhook_secret_can_be_printed_again(run_keys: Run, services: Services) -> None:
    printed = run_keys("create", "laptop").stdout.split()[-1]
    assert run_keys("secret", "laptop").stdout == f"{printed}\n"
    without = run_keys("secret").stdout
    assert without == f"{load_signing_secret(services.settings, ANONYMOUS)}\n"
    assert without.startswith("whsec_")
    assert without != f"{printed}\n"


def test_first_key_can_be_created_before_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a folder without a developer's .env file
    fresh = Settings(home=tmp_path / "home")

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "web", "keys", *words]
        return subprocess.check_output(command, cwd=ROOT, env=make_environment(fresh), text=True)

    assert run("list") == ""
    key, *_, secret = run("create", "laptop").split()
    assert key.startswith("mj_")
    assert run("secret", "laptop").split() == [secret]


def test_unreachable_database_is_reported_with_its_setting(run_keys: Run, settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/nowhere"})
    failed = run_keys("list", settings=away)
    assert failed.returncode == 1
    assert "MINDJOBS_DATABASE_URL: the database does not answer" in failed.stderr
