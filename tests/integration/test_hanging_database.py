"""A PostgreSQL server that does not answer: the web answers in time, and the workers go on."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest

from shared.database.connection import Database
from shared.database.migrate import ROOT, migrate
from shared.jobs import State
from tests.integration.conftest import Gate, ServeWeb, StartWorker
from tests.support.network import find_obstacle, make_network
from tests.support.ports import reserve_port
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

MAX_REQUEST_S = 5.0
MAX_READINESS_S = 2.0
"""The times within which the web answers. A test asserts ten times these times, since a test machine can be slow."""
CONCURRENT = 100
"""More requests than the web has connections to the database."""


@dataclass(frozen=True)
class Outage:
    """A way in which a database stops to answer.

    Parameters
    ----------
    url
        The address of a migrated database.
    begin, end
        Begin and end the outage.
    """

    url: str
    begin: Callable[[], None]
    end: Callable[[], None]


@contextmanager
def lose_packets(postgres: PostgresServer, name: str, folder: Path) -> Iterator[Outage]:
    """Put the server behind a network that can drop all packets."""
    if reason := find_obstacle():
        pytest.skip(reason)
    port = reserve_port()
    with make_network() as network, (folder / "forwarder.log").open("wb") as log:
        command = [*network.program, sys.executable, "-m", "tests.support.socket_forwarder"]
        command += [network.inside, str(port), str(postgres.socket)]
        forwarder = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            url = f"postgresql://postgres@{network.inside}:{port}/{name}"
            wait_until(lambda: accepts_connections(network.inside, port), "the forwarder")
            yield Outage(url, network.drop_packets, network.pass_packets)
        finally:
            forwarder.kill()
            forwarder.wait()


def accepts_connections(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port)):
            return True
    except ConnectionRefusedError:
        return False


@pytest.fixture(params=["suspended server", "lost packets"])
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    """An outage of a server of this test alone."""
    server = PostgresServer(tmp_path / "postgres")
    name, url = server.make_database()
    with closing(Database(url)) as database:
        migrate(database)
    if request.param == "suspended server":
        yield Outage(url, server.suspend, server.resume)
    else:
        with lose_packets(server, name, tmp_path) as outage:
            yield outage
    server.resume()
    server.close()


@pytest.fixture
def database_url(outage: Outage) -> str:
    """The address of the database that can stop to answer."""
    return outage.url


def request(port: int, method: str, path: str, body: str | None = None) -> tuple[int, str | None, float]:
    """Send a request; return the status of the response, its header ``Retry-After``, and how long the request took."""
    started_s = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", port, timeout=20 * MAX_REQUEST_S)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("Retry-After"), time.monotonic() - started_s


def test_requests_are_answered_in_time_and_the_running_job_ends(
    outage: Outage, serve_web: ServeWeb, start_worker: StartWorker, make_gate: Callable[[], Gate]
) -> None:
    _, settings = serve_web(web_processes=1)
    worker, gate = start_worker(), make_gate()
    gate.submit()
    gate.wait_for_child()
    job = f"/api/v1/jobs/{gate.job_id}"
    calls = [
        ("GET", job),
        ("GET", f"{job}/events"),
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/devices"),
        ("POST", "/api/v1/jobs", '{"kind": "knn"}'),
        ("POST", f"{job}/cancel"),
        ("GET", "/jobs"),
        ("GET", f"/jobs/{gate.job_id}"),
        ("GET", "/metrics"),
    ]
    assert request(settings.port, *calls[0])[0] == HTTPStatus.OK
    outage.begin()
    with ThreadPoolExecutor(CONCURRENT) as pool:
        waiting = [pool.submit(request, settings.port, *calls[number % len(calls)]) for number in range(CONCURRENT)]
        readiness = [pool.submit(request, settings.port, "GET", "/readyz") for _ in range(3)]
    answers, ready = [each.result() for each in waiting], [each.result() for each in readiness]
    slowest_s, slowest_ready_s = max(each[2] for each in answers), max(each[2] for each in ready)
    sys.stdout.write(f"slowest of {CONCURRENT} requests: {slowest_s:.1f} s, of /readyz: {slowest_ready_s:.1f} s\n")
    assert {each[:2] for each in answers} == {(HTTPStatus.SERVICE_UNAVAILABLE, "5")}
    assert slowest_s < 10 * MAX_REQUEST_S
    assert {each[0] for each in ready} == {HTTPStatus.SERVICE_UNAVAILABLE}
    assert slowest_ready_s < 10 * MAX_READINESS_S
    outage.end()
    wait_until(lambda: request(settings.port, *calls[0])[0] == HTTPStatus.OK, "the web to recover")
    gate.open()
    gate.wait_for(State.SUCCEEDED, attempt=1)
    assert worker.process.poll() is None
