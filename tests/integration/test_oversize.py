"""A web server, run as in production, refuses a body that is too large while it arrives, and stores no part of it."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from shared.api_keys import create_key
from shared.database.connection import Database
from shared.settings import Settings
from tests.integration.conftest import ServeWeb
from tests.support.instances import ask
from tests.support.processes import ServiceProcess
from tests.support.waiting import DEADLINE_S, wait_until
from web import uploads
from web.uploads import MULTIPART_OVERHEAD_BYTES

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

UPLOAD_BYTES = 2**20
TEXT_BYTES = 2**17
CHUNK_BYTES = 2**14
MARGIN_BYTES = uploads.CHUNK_BYTES + CHUNK_BYTES
"""The number of bytes of a body that may be read before the size of the body is checked."""
CHUNK = b"%x\r\n%s\r\n" % (CHUNK_BYTES, b"x" * CHUNK_BYTES)
CSV = "text/csv"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=cut"
PART = b'--cut\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
FILE = PART % (b"file", b'; filename="a.csv"')
TEXT = PART % (b"k", b"")


@dataclass(frozen=True)
class Web:
    """A web server, started as in production, and the folders in which no file of a refused request may remain."""

    process: ServiceProcess
    settings: Settings
    temporary: Path

    def list_leftovers(self) -> list[str]:
        """List the files that requests left: uploads and temporary files, including open files without a name."""
        uploads = [str(path) for path in (self.settings.home / "files").rglob("*") if path.is_file()]
        return uploads + [name for name in self._list_open() if name.startswith(str(self.temporary))]

    def _list_open(self) -> Iterator[str]:
        yield from map(str, self.temporary.iterdir())
        for child in self.process.list_children():
            for handle in Path(f"/proc/{child.pid}/fd").iterdir():
                try:
                    name = str(handle.readlink())
                except FileNotFoundError:  # the process closed the file after the listing
                    continue
                # The heartbeat files of gunicorn's workers have names of this form.
                if "wgunicorn-" not in name:
                    yield name


@pytest.fixture
def web(serve_web: ServeWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    limits = {"max_upload_bytes": UPLOAD_BYTES, "max_body_bytes": TEXT_BYTES, "max_uploaded_bytes": UPLOAD_BYTES}
    process, settings = serve_web(web_processes=1, web_threads=4, **limits)
    return Web(process, settings, temporary)


@contextmanager
def send(web: Web, address: str, body_bytes: int, begin: bytes = b"", **headers: str) -> Iterator[HTTPResponse]:
    """Send part of a body, but not the end of the body: a server that waited for the end would never respond."""
    given = {"Host": "127.0.0.1"} | {name.replace("_", "-"): value for name, value in headers.items()}
    given |= {} if "Content-Length" in given else {"Transfer-Encoding": "chunked"}
    head = "\r\n".join([f"POST {address} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""])
    with socket.create_connection(("127.0.0.1", web.settings.port), timeout=DEADLINE_S) as connection:
        connection.sendall(head.encode())
        if begin:
            connection.sendall(b"%x\r\n%s\r\n" % (len(begin), begin))
        with suppress(BrokenPipeError):  # the server may respond before everything is sent
            for _ in range(-(-body_bytes // CHUNK_BYTES)):
                connection.sendall(CHUNK)
        with closing(HTTPResponse(connection, method="POST")) as response:
            yield response


def read_status(response: HTTPResponse) -> int:
    response.begin()
    return response.status


@pytest.mark.parametrize("content_type", [CSV, MULTIPART, FORM])
def test_content_length_above_the_limit_is_refused_before_the_body_is_sent(web: Web, content_type: str) -> None:
    length = str(100 * UPLOAD_BYTES)
    for address in ("/api/v1/uploads", "/api/v1/jobs", "/knn", "/musicgen", "/sign-in"):
        with send(web, address, 0, Content_Type=content_type, Content_Length=length) as response:
            assert read_status(response) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, address
    assert web.list_leftovers() == []


@pytest.mark.parametrize(
    ("address", "content_type", "begin", "max_bytes"),
    [
        ("/api/v1/uploads", CSV, b"", UPLOAD_BYTES + MULTIPART_OVERHEAD_BYTES),
        ("/api/v1/uploads", FORM, b"", UPLOAD_BYTES + MULTIPART_OVERHEAD_BYTES),
        ("/api/v1/uploads", MULTIPART, FILE, UPLOAD_BYTES + MULTIPART_OVERHEAD_BYTES),
        ("/api/v1/uploads", MULTIPART, TEXT, UPLOAD_BYTES),
        ("/api/v1/jobs", "application/json", b"", TEXT_BYTES),
        ("/knn", MULTIPART, FILE, UPLOAD_BYTES + TEXT_BYTES + MULTIPART_OVERHEAD_BYTES),
        ("/musicgen", MULTIPART, FILE, UPLOAD_BYTES + TEXT_BYTES + MULTIPART_OVERHEAD_BYTES),
        # A form is parsed when it has arrived, so its text is found to be too large when the whole form is.
        ("/knn", MULTIPART, TEXT, UPLOAD_BYTES + TEXT_BYTES + MULTIPART_OVERHEAD_BYTES),
        ("/knn", FORM, b"", TEXT_BYTES),
        ("/sign-in", MULTIPART, FILE, TEXT_BYTES),
        ("/sign-in", FORM, b"", TEXT_BYTES),
    ],
)
def test_body_without_a_content_length_is_refused_at_the_limit(
    web: Web, address: str, content_type: str, begin: bytes, max_bytes: int
) -> None:
    with send(web, address, max_bytes + MARGIN_BYTES, begin, Content_Type=content_type) as response:
        assert read_status(response) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    wait_until(lambda: not web.list_leftovers(), "the leftovers to disappear")


@pytest.mark.parametrize(("content_type", "begin"), [(CSV, b""), (MULTIPART, FILE)])
def test_interrupted_upload_leaves_no_files(web: Web, content_type: str, begin: bytes) -> None:
    with send(web, "/api/v1/uploads", 3 * UPLOAD_BYTES // 4, begin, Content_Type=content_type):
        wait_until(web.list_leftovers, "a part of the upload")
    wait_until(lambda: not web.list_leftovers(), "the leftovers to disappear")


def test_request_without_a_key_is_refused_before_its_body_is_sent(web: Web) -> None:
    make_key(web)
    for address in ("/api/v1/uploads", "/knn"):
        with send(web, address, 0, Content_Type=MULTIPART) as response:
            assert read_status(response) == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(("content_type", "begin"), [(CSV, b""), (MULTIPART, FILE)])
def test_upload_larger_than_the_remaining_bytes_of_its_key_is_refused(
    web: Web, content_type: str, begin: bytes
) -> None:
    headers = {"Authorization": f"Bearer {make_key(web)}"}
    with closing(HTTPConnection("127.0.0.1", web.settings.port, timeout=DEADLINE_S)) as connection:
        connection.request("POST", "/api/v1/uploads", b"x" * (UPLOAD_BYTES // 2), headers)
        assert connection.getresponse().status == HTTPStatus.CREATED
    (stored,) = web.list_leftovers()
    max_bytes = UPLOAD_BYTES // 2 + MULTIPART_OVERHEAD_BYTES
    with send(
        web, "/api/v1/uploads", max_bytes + MARGIN_BYTES, begin, Content_Type=content_type, **headers
    ) as response:
        assert read_status(response) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    wait_until(lambda: web.list_leftovers() == [stored], "the leftovers to disappear")


def make_key(web: Web) -> str:
    """Create a key, and wait until the web server requires keys."""
    with closing(Database(web.settings.database)) as database:
        key = create_key(database, "ada")

    wait_until(
        lambda: ask(web.settings.port, "/api/v1/jobs") == HTTPStatus.UNAUTHORIZED, "the web server to require keys"
    )
    return key
