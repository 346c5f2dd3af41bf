"""The configurations in docs/deployment.md, run by real proxies: sessions, streams, uploads, downloads, prefixes."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from configparser import RawConfigParser
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from requests import Response, Session

from shared.api_keys import create_key
from shared.client import Client
from shared.database import transitions
from shared.database.migrate import ROOT
from shared.jobs import Outcome, Progress, State
from shared.services import Services
from tests.integration.test_instance import MAX_STOP_S
from tests.support.deployment import HOST, RUN, Front, read_blocks
from tests.support.html_pages import Page
from tests.support.instances import make_settings, run_web
from tests.support.job_outcomes import end, start_job
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, wait_until

JOB = {"kind": "knn", "device": "cpu"}
REPORT = bytes(range(256)) * 1024


@dataclass(frozen=True)
class Site:
    """The service behind a proxy.

    Parameters
    ----------
    key
        An API key.
    log
        The log of the web.
    """

    front: Front
    services: Services
    key: str
    log: Path

    @property
    def prefix(self) -> str:
        """The path under which the proxy shows the service."""
        return self.front.address.removeprefix("https://").partition("/")[2].join(("/", "")).rstrip("/")

    @property
    def origin(self) -> str:
        """The origin of the pages."""
        return self.front.address.removesuffix(self.prefix)

    def open(self, *, with_key: bool = True) -> Session:
        """Open a session of HTTP, as a program with the key or as a browser without."""
        session = Session()
        session.trust_env = False
        session.verify = str(self.front.authority)
        if with_key:
            session.headers["Authorization"] = f"Bearer {self.key}"
        return session

    def submit(self, session: Session) -> str:
        """Submit a job, and return its address."""
        response = session.post(f"{self.front.address}/api/v1/jobs", json=JOB, timeout=DEADLINE_S)
        assert response.status_code == HTTPStatus.ACCEPTED, response.text
        assert response.headers["Location"].startswith(f"{self.prefix}/api/v1/jobs/")
        return self.origin + response.headers["Location"]


@pytest.fixture(scope="module", params=[(name, prefix) for name in RUN for prefix in ("", "/mindjobs")], ids=str)
def site(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The web behind a proxy, without workers, so that only the test changes the jobs."""
    name, prefix = request.param
    folder = tmp_path_factory.mktemp(name)
    own = {"trusted_proxies": 1, "trusted_hosts": HOST, "redis_url": redis_server.url, "web_processes": 1}
    with make_settings(**own) as settings:
        services = Services.open(settings)
        log = folder / "web.log"
        with run_web(settings, log), RUN[name](folder, settings.authority, prefix) as front:
            yield Site(front, services, create_key(services.database, "ada"), log)
        services.close()


@pytest.fixture(autouse=True)
def _find_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name of the service lead to this machine."""
    look_up = socket.getaddrinfo

    def look_up_here(host: Any, *arguments: Any, **options: Any) -> Any:
        return look_up("127.0.0.1" if host == HOST else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)


def send_form(site: Site, session: Session, page: str, action: str | None = None, **fields: str) -> Response:
    """Send a form on a page as a browser does, without following the redirect."""
    address = site.front.address + page
    form = Page(session.get(address, timeout=DEADLINE_S).text).find_form(action and site.prefix + action)
    target = site.origin + form.action if form.action else address
    headers = {"Origin": site.origin, "Referer": address, "Sec-Fetch-Site": "same-origin"}
    return session.post(target, data=form.fields | fields, headers=headers, allow_redirects=False, timeout=DEADLINE_S)


def test_person_signs_in_submits_a_form_and_signs_out(site: Site) -> None:
    browser = site.open(with_key=False)
    page = browser.get(f"{site.front.address}/jobs?state=queued", headers={"Accept": "text/html"}, timeout=DEADLINE_S)
    assert page.url.startswith(f"{site.front.address}/sign-in?next=/jobs")
    page_path = page.url.removeprefix(site.front.address)
    signed_in = send_form(site, browser, page_path, key=site.key)
    assert signed_in.status_code == HTTPStatus.SEE_OTHER, signed_in.text
    assert signed_in.headers["Location"] == f"{site.prefix}/jobs?state=queued"
    flags = {part.strip() for part in signed_in.headers["Set-Cookie"].split(";")}
    assert {"Secure", "HttpOnly", f"Path={site.prefix or '/'}"} <= flags

    submitted = send_form(site, browser, "/knn", "/knn", device="cpu")
    assert submitted.status_code == HTTPStatus.SEE_OTHER, submitted.text
    job = browser.get(site.origin + submitted.headers["Location"], timeout=DEADLINE_S)
    assert job.status_code == HTTPStatus.OK
    assert f'data-events="{site.prefix}/api/v1/jobs/' in job.text
    path = submitted.headers["Location"].removeprefix(site.prefix)
    cancelled = send_form(site, browser, path, f"{path}/cancel")
    assert cancelled.headers["Location"] == submitted.headers["Location"]

    assert send_form(site, browser, "/jobs", "/sign-out").headers["Location"] == f"{site.prefix}/sign-in"
    assert "/sign-in" in browser.get(f"{site.front.address}/jobs", timeout=DEADLINE_S).url


def test_form_of_another_site_is_refused(site: Site) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
        response = site.open().post(f"{site.front.address}/api/v1/jobs", json=JOB, headers=headers, timeout=DEADLINE_S)
        assert response.status_code == HTTPStatus.FORBIDDEN


def test_events_arrive_while_the_stream_is_open(site: Site) -> None:
    session = site.open()
    job = site.submit(session)
    with session.get(f"{job}/events", stream=True, timeout=DEADLINE_S) as stream:
        events = (
            line.removeprefix("event: ")
            for line in stream.iter_lines(1, decode_unicode=True)
            if line.startswith("event: ")
        )
        assert next(events) == "state"
        lease = start_job(site.services, job.rpartition("/")[2])
        assert next(events) == "state"
        progress = Progress("evaluating", 1, 2, "folds")
        assert transitions.heartbeat(site.services.database, lease, progress, DEADLINE_S) is not None
        assert next(events) == "progress"
        end(site.services, lease, Outcome(State.SUCCEEDED, {}), {})
        assert list(events) == ["state"]


def test_long_poll_is_answered_when_the_job_changes(site: Site) -> None:
    session = site.open()
    job = site.submit(session)
    etag = session.get(job, timeout=DEADLINE_S).headers["ETag"]
    with ThreadPoolExecutor(1) as pool:
        headers = {"Prefer": "wait=60", "If-None-Match": etag}
        answer = pool.submit(session.get, job, headers=headers, timeout=DEADLINE_S)
        start_job(site.services, job.rpartition("/")[2])
        response = answer.result()
    assert response.status_code == HTTPStatus.OK
    assert response.json()["state"] == "running"


def test_long_poll_waits_for_its_whole_time(site: Site) -> None:
    session = site.open()
    job = site.submit(session)
    etag = session.get(job, timeout=DEADLINE_S).headers["ETag"]
    headers = {"Prefer": "wait=2", "If-None-Match": etag}
    response = session.get(job, headers=headers, timeout=DEADLINE_S)
    assert response.status_code == HTTPStatus.NOT_MODIFIED


def test_upload_of_some_megabytes_and_download_in_ranges(site: Site) -> None:
    session, content = site.open(), os.urandom(5 * 2**20)
    address = f"{site.front.address}/api/v1/uploads"
    for options in ({"data": content}, {"files": {"file": ("table.csv", content)}}, {"data": iter([content])}):
        stored = session.post(address, timeout=DEADLINE_S, **options)
        assert stored.status_code == HTTPStatus.CREATED, stored.text
        assert stored.json()["sha256"] == hashlib.sha256(content).hexdigest()

    job = site.submit(session)
    lease = start_job(site.services, job.rpartition("/")[2])
    end(site.services, lease, Outcome(State.SUCCEEDED, {}), {"report.bin": ("application/octet-stream", REPORT)})
    (artifact,) = session.get(job, timeout=DEADLINE_S).json()["artifacts"]
    url = site.origin + artifact["url"]
    whole = session.get(url, timeout=DEADLINE_S)
    assert whole.content == REPORT
    headers = {"Range": "bytes=1000-", "If-Range": whole.headers["ETag"]}
    part = session.get(url, headers=headers, timeout=DEADLINE_S)
    assert (part.status_code, part.content) == (HTTPStatus.PARTIAL_CONTENT, REPORT[1000:])
    assert part.headers["Content-Range"] == f"bytes 1000-{len(REPORT) - 1}/{len(REPORT)}"


def test_client_works_behind_a_proxy(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(site.front.authority))
    monkeypatch.setenv("NO_PROXY", HOST)
    with Client(site.front.address, site.key) as client:
        job = client.submit("knn", {}, device="cpu")
        lease = start_job(site.services, job.id)
        files = {"report.bin": ("application/octet-stream", REPORT)}
        end(site.services, lease, Outcome(State.SUCCEEDED, {}), files)
        assert client.wait(job.id).state == "succeeded"
        client.download(job.id, tmp_path)
    assert (tmp_path / "report.bin").read_bytes() == REPORT


def test_client_cannot_write_the_headers_of_the_proxy(site: Site) -> None:
    """The proxy replaces what a client sends, or adds to it."""
    forged = {
        "X-Forwarded-For": "192.0.2.66",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X_Forwarded_Prefix": "/evil",
        "X_Forwarded_For": "192.0.2.66",
        "Script-Name": "/evil",
        "SCRIPT_NAME": "/evil",
    }
    session = site.open(with_key=False)
    page = f"{site.front.address}/sign-in"
    shown = session.get(page, headers=forged, timeout=DEADLINE_S)
    assert shown.status_code == HTTPStatus.OK, shown.text
    assert "/evil" not in shown.text
    assert "Secure" in shown.headers["Set-Cookie"]
    # The form is sent without its token, which is logged.
    refused = session.post(page, data={"key": "x"}, headers=forged, timeout=DEADLINE_S)
    assert refused.status_code == HTTPStatus.BAD_REQUEST
    request = f"request={refused.headers['X-Request-ID']}"
    wait_until(lambda: request in site.log.read_text(), "the log line")
    assert f"{request} client=127.0.0.1\n" in site.log.read_text()


def test_host_that_is_not_named_is_refused(site: Site) -> None:
    port = site.origin.rpartition(":")[2]
    headers = {"Host": f"evil.example:{port}"}
    response = site.open().get(f"{site.front.address}/api/v1/jobs", headers=headers, timeout=DEADLINE_S)
    # nginx passes the request on, and the web refuses it; Caddy answers an unknown host with an empty page.
    assert response.status_code == HTTPStatus.BAD_REQUEST or not response.content


def test_prefix_without_a_slash_leads_to_the_home_page(site: Site) -> None:
    response = site.open().get(site.front.address, timeout=DEADLINE_S)
    assert response.status_code == HTTPStatus.OK, response.text
    assert response.url == f"{site.front.address}/"
    assert f'href="{site.prefix}/knn"' in response.text


def test_unit_of_systemd_starts_this_instance(tmp_path: Path) -> None:
    (unit,) = read_blocks("ini")
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keeps upper case, as configparser documents
    parser.read_string(unit)
    service = parser["Service"]
    assert service["KillMode"] == "mixed"  # the first process stops the others
    assert int(service["TimeoutStopSec"]) > MAX_STOP_S
    assert (service["StateDirectoryMode"], service["UMask"]) == ("0700", "0077")
    folder = service["WorkingDirectory"]
    assert service["ExecStart"] == f"{folder}/.venv/bin/python -m shared.instance.up"
    assert (ROOT / "shared/instance/up.py").is_file()
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return
    here = tmp_path / "mindjobs.service"
    here.write_text(unit.replace(f"{folder}/.venv/bin/python", sys.executable).replace(folder, str(ROOT)))
    checked = subprocess.run([verify, "verify", "--man=no", str(here)], capture_output=True, text=True, check=False)
    assert str(here.name) not in checked.stderr, checked.stderr
    assert checked.returncode == 0, checked.stderr
