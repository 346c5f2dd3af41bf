"""Files are sent whole, in part or not at all, as RFC 9110 says; artifacts and uploads are sent alike."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.job_outcomes import store_upload, succeed

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
CONTENT = b"0123456789"
LONG_AGO = "Thu, 01 Jan 1970 00:00:00 GMT"
LATER = "Fri, 01 Jan 2100 00:00:00 GMT"


def get(client: FlaskClient, url: str, **headers: str) -> TestResponse:
    """Get a file; in the names of headers, ``_`` stands for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    # With `buffered`, the client reads and closes the file, as a server does.
    return client.get(url, headers=named, buffered=True)


@pytest.fixture(params=["artifact", "upload"])
def url(request: pytest.FixtureRequest, services: Services) -> str:
    """The address of a file with 10 bytes."""
    return make_file(request.param, services, CONTENT)


def make_file(kind: str, services: Services, content: bytes) -> str:
    if kind == "upload":
        return f"/uploads/{store_upload(services, content).id}"
    job_id = submit_job(services, {"kind": "knn", "device": "cpu"})[0].id
    succeed(services, job_id, {}, {"a.csv": ("text/csv", content)})
    return f"/api/v1/jobs/{job_id}/artifacts/a.csv"


@pytest.mark.parametrize(
    ("wanted", "sent", "content_range"),
    [
        ("bytes=2-4", b"234", "2-4"),
        ("bytes=2-", b"23456789", "2-9"),
        ("bytes=2-999999", b"23456789", "2-9"),
        ("bytes=-3", b"789", "7-9"),
        ("bytes=-10", CONTENT, "0-9"),
        ("bytes=-999999", CONTENT, "0-9"),
        ("bytes=-" + "9" * 5_000, CONTENT, "0-9"),
        ("bytes=0-" + "9" * 5_000, CONTENT, "0-9"),
    ],
)
def test_range_is_sent(client: FlaskClient, url: str, wanted: str, sent: bytes, content_range: str) -> None:
    response = get(client, url, Range=wanted)
    assert (response.status_code, response.data) == (206, sent)
    assert response.headers["Content-Range"] == f"bytes {content_range}/10"
    assert response.headers["Content-Length"] == str(len(sent))


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,4-5", "bytes=0-1, -1", "lines=0-1", "bytes=4-2", "bytes=a-b", "bytes=", "bytes=-", "nonsense", ""],
)
def test_range_that_is_not_one_range_of_bytes_is_ignored(client: FlaskClient, url: str, wanted: str) -> None:
    response = get(client, url, Range=wanted)
    assert (response.status_code, response.data) == (200, CONTENT)
    assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=" + "9" * 5_000 + "-"])
def test_range_outside_the_file_is_refused(client: FlaskClient, url: str, wanted: str) -> None:
    response = get(client, url, Range=wanted, Accept="application/problem+json")
    assert (response.status_code, response.content_type) == (416, "application/problem+json")
    assert response.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize(("wanted", "status"), [("bytes=-5", 200), ("bytes=0-", 416)])
def test_empty_file_has_no_ranges(client: FlaskClient, services: Services, wanted: str, status: int) -> None:
    response = get(client, make_file("artifact", services, b""), Range=wanted)
    assert response.status_code == status


def test_range_is_sent_only_if_the_file_is_in_the_version_of_if_range(client: FlaskClient, url: str) -> None:
    whole = get(client, url)
    etag, modified_at = whole.headers["ETag"], whole.headers["Last-Modified"]
    for condition, status in (
        (etag, 206),
        (f"W/{etag}", 200),
        ('"another"', 200),
        (etag.strip('"'), 200),
        (modified_at, 206),
        (LONG_AGO, 200),
        (LATER, 200),
    ):
        response = get(client, url, Range="bytes=1-2", If_Range=condition)
        assert (response.status_code, response.data) == (status, b"12" if status == 206 else CONTENT), condition


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"If_Match": "ETAG"}, 200),
        ({"If_Match": '"another", ETAG'}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": "ETAG", "Range": "bytes=0-0"}, 206),
        ({"If_Match": "ETAG", "If_Unmodified_Since": LONG_AGO}, 200),
        ({"If_Match": '"another"'}, 412),
        ({"If_Match": "W/ETAG"}, 412),
        ({"If_Match": '"another"', "Range": "bytes=0-0"}, 412),
        ({"If_Match": '"another"', "If_None_Match": "ETAG"}, 412),
        ({"If_Unmodified_Since": LATER}, 200),
        ({"If_Unmodified_Since": LONG_AGO}, 412),
        ({"If_Unmodified_Since": "nonsense"}, 200),
        ({"If_None_Match": "ETAG"}, 304),
        ({"If_None_Match": "W/ETAG"}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": "ETAG", "Range": "bytes=0-0"}, 304),
        ({"If_None_Match": '"another"', "If_Modified_Since": LATER}, 200),
        ({"If_Modified_Since": LATER}, 304),
        ({"If_Modified_Since": LONG_AGO}, 200),
    ],
)
def test_conditions_decide_whether_the_file_is_sent(
    client: FlaskClient, url: str, conditions: dict[str, str], status: int
) -> None:
    etag = get(client, url).headers["ETag"]
    given = {name: value.replace("ETAG", etag) for name, value in conditions.items()}
    response = get(client, url, Accept="application/problem+json", **given)
    assert response.status_code == status
    if status == 412:
        assert response.content_type == "application/problem+json"
        assert CONTENT not in response.data
    else:
        assert response.data == {200: CONTENT, 206: b"0", 304: b""}[status]


def test_range_of_a_request_for_the_headers_is_ignored(client: FlaskClient, url: str) -> None:
    response = client.head(url, headers={"Range": "bytes=0-0"}, buffered=True)
    assert (response.status_code, response.headers["Content-Length"], response.data) == (200, "10", b"")


@pytest.mark.parametrize(("condition", "status"), [("ETAG", 200), ("*", 200), ('"another"', 412), ("W/ETAG", 412)])
def test_job_is_sent_only_in_the_required_version(
    client: FlaskClient, services: Services, condition: str, status: int
) -> None:
    url = f"/api/v1/jobs/{submit_job(services, {'kind': 'knn', 'device': 'cpu'})[0].id}"
    etag = client.get(url).headers["ETag"]
    response = client.get(url, headers={"If-Match": condition.replace("ETAG", etag)})
    assert response.status_code == status
    body: Any = response.json
    assert body["type" if status == 412 else "id"]
