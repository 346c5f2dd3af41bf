"""The web server, run as in production, reads each request in one way only, and refuses what could be read in two."""

from http import HTTPStatus

import pytest
from sqlalchemy import select

from shared.database.tables import Upload
from shared.services import Services
from tests.integration.conftest import ServeWeb
from tests.support.raw_http import connect, exchange, read_statuses, read_until_closed

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

UPLOAD = b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
JOB = b'{"kind": "knn"}'
CLOSE = b"Connection: close\r\n\r\n"
BAD = HTTPStatus.BAD_REQUEST


@pytest.fixture
def port(serve_web: ServeWeb) -> int:
    _, settings = serve_web(web_processes=1)
    return settings.port


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (UPLOAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        (UPLOAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", BAD),
        (UPLOAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", BAD),
        (UPLOAD + b"Content-Length: +4\r\n\r\nabcd", BAD),
        (UPLOAD + b"Content-Length: -1\r\n\r\n", BAD),
        (UPLOAD + b"Transfer-Encoding: identity\r\n\r\n", BAD),
        (UPLOAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", BAD),
        (UPLOAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", HTTPStatus.NOT_IMPLEMENTED),
        (UPLOAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", BAD),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n", BAD),
        (b"GET /healthz HTTP/1.1\nHost: localhost\n\n", BAD),
        (ALIVE + b"A: b\nC: d\r\n\r\n", BAD),
        (ALIVE + b"A: b\r\n c\r\n\r\n", BAD),
        (ALIVE + b"A: b\0c\r\n\r\n", BAD),
        (ALIVE + b"A\0: b\r\n\r\n", BAD),
        (ALIVE + b"A : b\r\n\r\n", BAD),
        (ALIVE + b"Host: localhost\r\n\r\n", BAD),
        (b"GET /healthz HTTP/1.1\r\n" + CLOSE, BAD),
        (b"GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n", BAD),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", HTTPStatus.REQUEST_URI_TOO_LONG),
        (ALIVE + b"A: " + b"a" * 70_000 + b"\r\n\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    ],
    ids=lambda value: value.name if isinstance(value, HTTPStatus) else value[-60:].decode("latin-1"),
)
def test_request_that_can_be_read_in_two_ways_is_refused(
    port: int, services: Services, request_: bytes, status: HTTPStatus
) -> None:
    # If the server read a second request from the rest, it would send a second response.
    assert read_statuses(exchange(port, request_ + ALIVE + CLOSE)) == [status]
    assert find_uploads(services) == []


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 10\r\n\r\nabc",
        b"Content-Length: 100000\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_upload_that_ends_too_early_is_refused_and_not_kept(port: int, services: Services, framing: bytes) -> None:
    received = exchange(port, UPLOAD + framing, end=True)
    assert read_statuses(received) == [HTTPStatus.BAD_REQUEST]
    assert b'"type": "body-incomplete"' in received
    assert find_uploads(services) == []


def test_body_that_was_not_read_ends_the_connection(port: int) -> None:
    head = b"POST /api/v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    received = exchange(port, head + b"x" * 50_000)
    assert read_statuses(received) == [HTTPStatus.NOT_FOUND]
    assert b"\r\nconnection: close\r\n" in received.lower()


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: %d\r\n\r\n%s" % (len(JOB), JOB),
        b"Transfer-Encoding: chunked\r\n\r\n8\r\n%s\r\n7\r\n%s\r\n0\r\n\r\n" % (JOB[:8], JOB[8:]),
    ],
)
def test_body_of_known_and_of_unknown_length_is_read(port: int, framing: bytes) -> None:
    head = b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
    # The second request shows that the server found the end of the first.
    received = exchange(port, head + framing + ALIVE + CLOSE)
    assert read_statuses(received) == [HTTPStatus.ACCEPTED, HTTPStatus.OK]


def test_expectation_is_met_before_the_body_is_sent(port: int, services: Services) -> None:
    with connect(
        port, UPLOAD + b"Connection: close\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    ) as connection:
        assert connection.recv(2**16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"a,b")
        assert read_statuses(read_until_closed(connection)) == [HTTPStatus.CREATED]
    assert find_uploads(services) == [3]


def test_expectation_of_a_body_that_is_too_large_is_refused(port: int) -> None:
    length = b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
    with connect(port, UPLOAD + length) as connection:
        assert read_statuses(connection.recv(2**16)) == [HTTPStatus.REQUEST_ENTITY_TOO_LARGE]


@pytest.mark.parametrize("end", [False, True])
def test_http_1_0_without_a_host_is_answered(port: int, end: bool) -> None:
    received = exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n", end=end)
    assert read_statuses(received) == [HTTPStatus.OK]
    assert received.endswith(b'{"status":"alive"}\n')


def test_client_that_sends_nothing_more_gets_its_response(port: int) -> None:
    assert read_statuses(exchange(port, ALIVE + b"\r\n", end=True)) == [HTTPStatus.OK]


def test_address_in_absolute_form_is_read(port: int) -> None:
    request = b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n" + CLOSE
    assert read_statuses(exchange(port, request)) == [HTTPStatus.OK]


def test_websocket_is_refused(port: int) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    assert read_statuses(exchange(port, ALIVE + upgrade)) == [HTTPStatus.FORBIDDEN]


def find_uploads(services: Services) -> list[int]:
    """Return the sizes of all uploads."""
    with services.database.reading() as session:
        return list(session.scalars(select(Upload.bytes)))
