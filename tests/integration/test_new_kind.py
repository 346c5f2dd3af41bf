"""A new kind of job needs one line in an enum and three packages.

The test adds a toy kind to a copy of the project in this way, and runs its jobs end to end on SQLite and PostgreSQL.
"""

import http.cookiejar
import re
import shutil
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener, urlopen

import pytest

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.conftest import SHORT_INTERVALS
from tests.support.instances import call, make_settings, run_job, wait_for_end, wait_for_ready
from tests.support.processes import ServiceProcess
from tests.support.waiting import DEADLINE_S

TOY: Final = Path(__file__).parent / "toy_kind"
FOLDERS: Final = {"shared": "shared/kinds/toy", "web": "web/kinds/toy", "worker": "worker/engines/toy"}
COPIED: Final = ("shared", "web", "worker", "migrations", "alembic.ini")


def copy_project(folder: Path) -> None:
    """Copy the files that a running instance needs, without the tests."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)


def add_toy_kind(folder: Path) -> None:
    jobs = folder / "shared/jobs.py"
    line = '    MUSICGEN = "musicgen"\n'
    before = jobs.read_text()
    assert before.count(line) == 1
    jobs.write_text(before.replace(line, line + '    TOY = "toy"\n'))
    for part, package in FOLDERS.items():
        shutil.copytree(TOY / part, folder / package, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def settings(database_url: str) -> Iterator[Settings]:
    with make_settings(database_url=database_url, **SHORT_INTERVALS) as settings:
        yield settings


@pytest.fixture
def instance(settings: Settings, tmp_path: Path) -> Iterator[ServiceProcess]:
    folder = tmp_path / "project"
    folder.mkdir()
    copy_project(folder)
    add_toy_kind(folder)
    process = ServiceProcess("shared.instance.up", settings=settings, log=tmp_path / "up.log", folder=folder)
    yield process
    process.close()


def read_page(opener: OpenerDirector, address: str, fields: dict[str, str] | None = None) -> tuple[str, str]:
    """Request a page, by POST if there are form fields; return the address after redirects, and the content."""
    body = urlencode(fields).encode() if fields is not None else None
    with opener.open(address, body, timeout=DEADLINE_S) as response:
        return response.geturl(), response.read().decode()


def test_jobs_of_a_toy_kind_can_be_submitted_by_the_api_and_by_the_form(
    instance: ServiceProcess, settings: Settings
) -> None:
    wait_for_ready(instance, settings)
    address = f"http://127.0.0.1:{settings.port}"

    job = run_job(settings, {"kind": "toy", "params": {"numbers": [4, 38]}})
    assert (job["state"], job["engine"], job["result"]) == ("succeeded", "python", {"total": 42})
    (artifact,) = job["artifacts"]
    with urlopen(address + artifact["url"], timeout=DEADLINE_S) as response:  # noqa: S310 - our own address
        assert response.read() == b"42"

    failed = run_job(settings, {"kind": "toy", "params": {"numbers": [-1]}})
    assert failed["state"] == "failed"
    assert failed["error"] == {
        "type": "negative",
        "title": "The total is negative",
        "detail": "The total is -1, but must not be negative.",
    }
    with pytest.raises(HTTPError) as refused:
        call(settings, "/api/v1/jobs", {"kind": "toy", "params": {"numbers": []}})
    assert refused.value.code == HTTPStatus.UNPROCESSABLE_ENTITY

    document = call(settings, "/api/v1/openapi.json")
    assert {"ToyParams", "ToyResult", "ToyJob", "ToySubmission"} <= document["components"]["schemas"].keys()
    assert [job["id"] for job in call(settings, "/api/v1/jobs?kind=toy")["jobs"]] == [failed["id"], job["id"]]

    opener = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
    _, home = read_page(opener, f"{address}/")
    assert "Add up numbers" in home
    _, form = read_page(opener, f"{address}/toy")
    (token,) = set(re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', form))
    fields = {"csrf_token": token, "numbers": "20, 3", "device": "auto"}
    submitted, _ = read_page(opener, f"{address}/toy", fields)
    shown = wait_for_end(settings, f"/api/v1{submitted.removeprefix(address)}")
    assert shown["state"] == "succeeded"
    assert "The total is <strong>23</strong>" in read_page(opener, submitted)[1]
