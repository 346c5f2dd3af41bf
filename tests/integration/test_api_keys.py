"""``python -m web keys`` creates, lists and revokes API keys, and opens the service again, on both databases."""

import os
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
from sqlalchemy import select, update

from shared import api_keys
from shared.database.migrate import ROOT
from shared.database.tables import Instance, Job, Key, Upload
from shared.jobs import ANONYMOUS
from shared.services import Services
from shared.settings import Settings
from shared.state_folder import PRIVATE_UMASK
from shared.webhooks.messages import load_signing_secret
from tests.integration.conftest import ServeWeb
from tests.support.auth_headers import expire_key_cache
from tests.support.instances import ask as ask_server
from tests.support.processes import make_environment
from tests.support.waiting import wait_until
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

    mask = os.umask(PRIVATE_UMASK)
    os.umask(mask)

    def run(*words: str, settings: Settings = settings) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["web", "keys", *words])
        for name, value in make_environment(settings).items():
            monkeypatch.setenv(name, value)
        said: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            said = end.code
        finally:
            os.umask(mask)  # the command has changed that of this process
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


def test_key_has_the_role_that_it_was_created_with(run_keys: Run) -> None:
    make_key(run_keys, "ada")
    make_key(run_keys, "eve the operator", "--operator")
    lines = [line.split(maxsplit=3)[2:] for line in run_keys("list").stdout.splitlines()]
    assert lines == [["user", "ada"], ["operator", "eve the operator"]]


def ask_anonymously(app: Flask) -> int:
    expire_key_cache(app)
    return app.test_client().get("/api/v1/jobs").status_code


def test_service_stays_closed_when_the_last_key_is_revoked_until_it_is_opened(run_keys: Run, app: Flask) -> None:
    assert ask_anonymously(app) == HTTPStatus.OK
    make_key(run_keys, "ada")
    assert ask_anonymously(app) == HTTPStatus.UNAUTHORIZED
    run_keys("revoke", "ada")
    assert ask_anonymously(app) == HTTPStatus.UNAUTHORIZED
    opened = run_keys("open")
    assert (opened.returncode, opened.stderr) == (0, "")
    assert opened.stdout == "The service is open: on loopback, no key is needed until the next one is created.\n"
    assert ask_anonymously(app) == HTTPStatus.OK
    make_key(run_keys, "bob")
    run_keys("revoke", "bob")
    assert ask_anonymously(app) == HTTPStatus.UNAUTHORIZED


def test_service_is_not_opened_while_keys_exist(run_keys: Run, app: Flask) -> None:
    for name in ("ada", "bob"):
        make_key(run_keys, name)
    refused = run_keys("open")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "There are still API keys: ada, bob. Revoke them first" in refused.stderr
    for name in ("ada", "bob"):
        run_keys("revoke", name)
    assert ask_anonymously(app) == HTTPStatus.UNAUTHORIZED


def test_name_that_is_taken_does_not_close_an_open_service(run_keys: Run, app: Flask, services: Services) -> None:
    make_key(run_keys, "ada")
    with services.database.writing() as session:
        session.execute(update(Instance).values(keys_required=False))
    assert run_keys("create", "ada").returncode == 1
    with services.database.reading() as session:
        assert session.scalars(select(Instance.keys_required)).all() == [False]
    assert ask_anonymously(app) == HTTPStatus.UNAUTHORIZED  # a key that exists is reason enough


def test_running_web_processes_notice_that_the_service_is_closed_and_opened(run_keys: Run, serve_web: ServeWeb) -> None:
    port = serve_web()[1].port

    def is_admitted(key: str = "") -> set[bool]:
        """Send some requests, so that each process answers at least one, and return whether they are admitted."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return {ask_server(port, "/api/v1/jobs", **headers) == HTTPStatus.OK for _ in range(16)}

    assert is_admitted() == {True}
    key = make_key(run_keys, "ada")
    wait_until(lambda: is_admitted() == {False} and is_admitted(key) == {True}, "the web to notice the key")
    run_keys("revoke", "ada")
    wait_until(lambda: is_admitted(key) == {False}, "the web to notice that the key is revoked")
    assert is_admitted() == {False}
    run_keys("open")
    wait_until(lambda: is_admitted() == {True}, "the web to notice that it is open")


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
