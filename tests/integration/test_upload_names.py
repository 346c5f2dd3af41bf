"""A file name from a client is only displayed: it does not become a path, add a header, or set the media type."""

from http import HTTPStatus
from typing import Any

import pytest
from flask.testing import FlaskClient
from markupsafe import escape
from werkzeug.http import parse_options_header
from werkzeug.test import TestResponse

from shared.errors import RequestInvalidError
from shared.services import Services
from tests.support.disks import list_keys
from tests.support.html_pages import send_form

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

TABLE = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"


def read(response: TestResponse) -> dict[str, Any]:
    assert response.json is not None
    return dict(response.json)


def send_named(client: FlaskClient, filename: str) -> TestResponse:
    """Upload a table; ``filename`` is the parameter of the Content-Disposition header exactly as a client writes it."""
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; {filename}\r\nContent-Type: text/html\r\n\r\n'
    body = head.encode() + TABLE + b"\r\n--cut--\r\n"
    return client.post("/api/v1/uploads", data=body, content_type="multipart/form-data; boundary=cut")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (r'filename="a\"; filename=\"b.csv"', 'a"; filename="b.csv'),
        ('filename="a%22b.csv"', 'a"b.csv'),
        ('filename="é €.csv"', "é €.csv"),
        ('filename="a;b\'.html"', "a;b'.html"),
        ('filename="%0d%0aX-Evil: 1.csv"', "%0d%0aX-Evil: 1.csv"),
        ('filename="<script>.csv"', "<script>.csv"),
        ('filename="..csv"', "..csv"),
    ],
)
def test_file_name_is_displayed_but_does_not_set_the_path_or_the_media_type(
    client: FlaskClient, services: Services, sent: str, name: str
) -> None:
    response = send_named(client, sent)
    assert response.status_code == HTTPStatus.CREATED, response.text
    upload = read(response)
    assert (upload["filename"], upload["media_type"]) == (name, "text/csv")
    assert list_keys(services.files, "uploads") == [f"uploads/{upload['id']}"]
    downloaded = client.get(f"/uploads/{upload['id']}", buffered=True)
    assert (downloaded.data, downloaded.mimetype) == (TABLE, "text/csv")
    kind, options = parse_options_header(downloaded.headers["Content-Disposition"])
    assert (kind, options["filename"]) == ("attachment", name)
    assert escape(name) in send_form(client, "/knn", upload=upload["id"], preview="1").text


@pytest.mark.parametrize(
    "sent",
    [
        'filename="a/b.csv"',
        'filename=".."',
        'filename="../../etc/passwd"',
        r'filename="a\\b.csv"',
        "filename*=UTF-8''a%0D%0AX-Evil%3A%201.csv",
        "filename*=UTF-8''a%00.csv",
        "filename*=UTF-8''..%2Fa.csv",
        f'filename="{"a" * 300}"',
    ],
)
def test_file_name_with_path_or_control_characters_or_excessive_length_is_refused(
    client: FlaskClient, services: Services, sent: str
) -> None:
    response = send_named(client, sent)
    assert response.status_code == RequestInvalidError.status, response.text
    assert read(response)["errors"][0]["pointer"] == "/file"
    assert list_keys(services.files, "uploads") == []
