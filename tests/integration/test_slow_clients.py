"""Clients that send or read slowly, in any number, do not keep the web server from answering others.

The server has only four threads here, so it would answer nobody if slow clients held threads.
"""

from contextlib import ExitStack
from http import HTTPStatus

import pytest

from shared.database import transitions
from shared.jobs import Outcome, State
from shared.services import Services
from shared.submission.submit import submit_job
from tests.integration.conftest import ServeWeb
from tests.support.instances import ask
from tests.support.job_outcomes import start_job, store_file
from tests.support.raw_http import connect, read_statuses, read_until_closed
from tests.support.waiting import wait_until

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

CLIENTS = 200
SMALL_BUFFER = 2**12
FILE_BYTES = 2**24
"""More than the buffers of a connection hold."""
HOST = b"Host: localhost\r\n"
HALF_HEAD = b"GET /healthz HTTP/1.1\r\nHo"
HALF_BODIES = [
    b"POST /api/v1/jobs HTTP/1.1\r\n" + HOST + b'Content-Length: 1000\r\n\r\n{"kind"',
    b"POST /api/v1/uploads HTTP/1.1\r\n" + HOST + b"Content-Type: text/csv\r\nContent-Length: 1000000\r\n\r\na,b",
    b"POST /api/v1/uploads HTTP/1.1\r\n"
    + HOST
    + b"Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na,",
    b"POST /knn HTTP/1.1\r\n"
    + HOST
    + b"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: 100000\r\n\r\n--cut",
]


@pytest.fixture
def port(serve_web: ServeWeb) -> int:
    _, settings = serve_web(web_processes=1, web_threads=4)
    return settings.port


@pytest.mark.parametrize("request_", [HALF_HEAD, *HALF_BODIES])
def test_others_are_answered_while_requests_are_incomplete(port: int, request_: bytes) -> None:
    with ExitStack() as clients:
        for _ in range(CLIENTS):
            clients.enter_context(connect(port, request_))
        assert ask(port, "/api/v1/jobs") == HTTPStatus.OK


def test_incomplete_requests_are_ended_after_a_time(port: int) -> None:
    with ExitStack() as clients:
        head, *bodies = [clients.enter_context(connect(port, each)) for each in (HALF_HEAD, *HALF_BODIES)]
        assert read_until_closed(head) == b""
        assert [read_statuses(read_until_closed(body)) for body in bodies] == [[HTTPStatus.REQUEST_TIMEOUT]] * 4


@pytest.mark.parametrize("range_", [b"", b"Range: bytes=1-\r\n"])
def test_others_are_answered_while_files_are_not_read(port: int, services: Services, range_: bytes) -> None:
    request = b"GET " + finish_job_with_a_large_file(services) + b" HTTP/1.1\r\n" + HOST + range_ + b"\r\n"
    with ExitStack() as clients:
        for connection in [
            clients.enter_context(connect(port, request, receive_buffer=SMALL_BUFFER)) for _ in range(CLIENTS)
        ]:
            assert connection.recv(len(b"HTTP/1.1 20")) == b"HTTP/1.1 20"  # the server has begun to send
        assert ask(port, "/api/v1/jobs") == HTTPStatus.OK


def test_closed_connection_frees_the_place_of_its_event_stream(port: int, services: Services) -> None:
    """Two of the four threads may wait, so a third stream is refused while two connections are open."""
    job_id = submit_job(services, {"kind": "knn", "device": "cpu"})[0].id
    request = f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def open_stream() -> HTTPStatus:
        connection = clients.enter_context(connect(port, request))
        return read_statuses(connection.recv(2**10))[0]

    with ExitStack() as clients:
        assert [open_stream() for _ in range(3)] == [HTTPStatus.OK, HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE]
        clients.close()
        wait_until(lambda: open_stream() == HTTPStatus.OK, "a free place")


def finish_job_with_a_large_file(services: Services) -> bytes:
    """Run a job that saves a large file, and return the path of the file's address."""
    submit_job(services, {"kind": "knn", "device": "cpu"})
    lease = start_job(services)
    file = store_file(services, lease, "large.wav", "audio/wav", bytes(FILE_BYTES))
    assert transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {"best_k": 1}, files=(file,)))
    return f"/api/v1/jobs/{lease.job_id}/artifacts/large.wav".encode()
