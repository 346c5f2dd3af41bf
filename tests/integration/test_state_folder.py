"""Every process of an instance, also if it is started alone, writes files that other users cannot read."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.integration.conftest import ServeWeb, StartProcess, StartWorker
from tests.support.instances import call
from tests.support.permissions import PRIVATE_UMASK, find_readable, list_umasks
from tests.support.processes import make_environment
from tests.support.waiting import wait_until

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def open_folder(settings: Settings) -> Iterator[None]:
    """Create the state folder with the mode, and start the processes with the umask, that let everyone read."""
    mask = os.umask(0o022)
    settings.home.mkdir(mode=0o755)
    yield
    os.umask(mask)


def test_web_stores_files_that_others_cannot_read(serve_web: ServeWeb) -> None:
    web, settings = serve_web()
    assert set(list_umasks(web)) == {PRIVATE_UMASK}
    upload = call(settings, "/api/v1/uploads", {"any": "text"})
    assert {"secret", upload["id"]} <= {path.name for path in settings.home.rglob("*")}
    assert find_readable(settings.home) == []


def test_sweeper_and_worker_that_are_started_alone_protect_the_state_folder(
    settings: Settings, start_process: StartProcess, start_worker: StartWorker
) -> None:
    sweeper = start_process("shared.maintenance")
    wait_until(
        lambda: find_readable(settings.home) == [] and set(list_umasks(sweeper)) == {PRIVATE_UMASK}, "the sweeper"
    )
    settings.home.chmod(0o755)
    worker = start_worker()
    assert len(list_umasks(worker)) > 1
    assert set(list_umasks(worker)) == {PRIVATE_UMASK}
    assert find_readable(settings.home) == []


@pytest.mark.parametrize("command", [["web", "keys", "list"], ["shared.database.migrate"]])
def test_command_protects_the_state_folder(settings: Settings, command: list[str]) -> None:
    own = settings.model_copy(update={"database_url": ""})
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=make_environment(own), check=True)
    assert (settings.home / "mindjobs.sqlite").is_file()
    assert find_readable(settings.home) == []
