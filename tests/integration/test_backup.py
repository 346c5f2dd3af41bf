"""The commands in docs/deployment.md that back up and restore an instance, on SQLite and on PostgreSQL."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from requests import Session

from shared.api_keys import create_key
from shared.database.migrate import ROOT
from shared.services import Services
from shared.settings import Settings
from tests.integration.conftest import ServeWeb, StartProcess
from tests.support.deployment import find_program, read_commands
from tests.support.html_pages import Page
from tests.support.instances import call, wait_for_end
from tests.support.ports import reserve_port
from tests.support.processes import make_environment
from tests.support.servers import PostgresServer
from tests.support.waiting import DEADLINE_S

WORKER = ("worker", "--device", "cpu:0", "--kinds", "knn")
TITLES = {
    "sqlite": ("Back up with SQLite", "Restore it, while"),
    "postgresql": ("Back up with PostgreSQL", "Restore it into a database"),
}
"""The beginnings of the paragraphs before the commands, keyed by the database."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with the SQLite database in the state folder, where it is by default."""
    settings.home.mkdir()
    if not settings.database.startswith("sqlite"):
        return settings
    file = Path(settings.database.removeprefix("sqlite:///"))
    return settings.model_copy(update={"database_url": f"sqlite:///{file.rename(settings.home / 'mindjobs.sqlite')}"})


@pytest.fixture
def other_database_url(settings: Settings, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the database for the restored rows: the same file, or an empty database of PostgreSQL."""
    if settings.database.startswith("sqlite"):
        yield settings.database_url
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name, url = server.make_database()
    yield url
    server.drop_database(name)


def run_commands(title: str, settings: Settings, backup: Path) -> None:
    """Run the commands on the page that follow the paragraph with this beginning."""
    find_program("sqlite3", "sqlite3")
    environment = make_environment(settings) | {"BACKUP": str(backup)}
    if not settings.database.startswith("sqlite"):
        import pgserver

        # pg_dump must not be older than the server.
        environment["PATH"] = f"{Path(pgserver.__file__).parent}/pginstall/bin:{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-eu", "-c", read_commands(title)], env=environment, check=True)


def show_secret(settings: Settings) -> str:
    """Return the secret that signs the webhook messages of the key."""
    command = [sys.executable, "-m", "web", "keys", "secret", "ada"]
    environment = make_environment(settings)
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def sign_in(address: str, key: str) -> Session:
    """Sign in with a key, and return the session."""
    browser = Session()
    browser.trust_env = False
    form = Page(browser.get(f"{address}/sign-in", timeout=DEADLINE_S).text).find_form(None)
    response = browser.post(f"{address}/sign-in", data=form.fields | {"key": key}, timeout=DEADLINE_S)
    assert response.url == f"{address}/", response.text
    return browser


def test_restored_instance_has_jobs_files_keys_sessions_and_secrets(
    services: Services, serve_web: ServeWeb, start_process: StartProcess, other_database_url: str, tmp_path: Path
) -> None:
    backup, port = tmp_path / "backup", reserve_port()
    back_up, restore = TITLES[services.settings.database.partition(":")[0]]
    web, served = serve_web(port=port)
    address, key = f"http://{served.authority}", create_key(services.database, "ada")
    browser = sign_in(address, key)
    worker = start_process(*WORKER)

    def submit() -> str:
        body = {"kind": "knn", "device": "cpu", "params": {"k": 5}}
        return f"/api/v1/jobs/{call(served, '/api/v1/jobs', body, Authorization=f'Bearer {key}')['id']}"

    def read(path: str) -> Any:
        return call(served, path, Authorization=f"Bearer {key}")

    def download(job: Any) -> bytes:
        response = browser.get(address + job["artifacts"][0]["url"], timeout=DEADLINE_S)
        assert response.status_code == 200, response.text
        return response.content

    ended = submit()
    job = wait_for_end(served, ended, Authorization=f"Bearer {key}")
    assert job["state"] == "succeeded", job
    content, secret = download(job), show_secret(served)
    worker.close()
    queued = submit()
    run_commands(back_up, served, backup)
    web.close()

    shutil.rmtree(served.home)
    with Redis.from_url(served.redis) as redis:
        redis.flushall()
    restored = served.model_copy(update={"database_url": other_database_url})
    run_commands(restore, restored, backup)
    assert (restored.home / "secret").stat().st_mode & 0o777 == 0o600
    serve_web(port=port, database_url=restored.database_url)
    assert read(ended) == job
    assert download(job) == content
    assert show_secret(restored) == secret
    assert browser.get(f"{address}/jobs", timeout=DEADLINE_S).url == f"{address}/jobs"
    assert read(queued)["state"] == "queued"
    start_process(*WORKER, settings=restored)
    start_process("shared.maintenance", settings=restored)
    assert wait_for_end(served, queued, Authorization=f"Bearer {key}")["state"] == "succeeded"
