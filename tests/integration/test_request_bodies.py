"""Bodies of requests: compressed bodies are read within the size limits, and addresses are corrected by redirects."""

import gc
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.services import Services
from shared.settings import Settings
from tests.support.auth_headers import make_auth_headers
from tests.support.disks import list_keys, path_on_disk
from web import create_app
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TABLE = b"k,a\nx,1\ny,2\n"
JOB = json.dumps({"kind": "knn", "device": "cpu"}).encode()
COMPRESSED = gzip.compress(JOB)
MIB = 2**20
FORM = "application/x-www-form-urlencoded"


def post(client: FlaskClient, url: str, body: bytes, encoding: str = "gzip", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(url, data=body, headers={"Content-Encoding": encoding} | named)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_compressed_json_is_read(client: FlaskClient, encoding: str) -> None:
    assert post(client, "/api/v1/jobs", gzip.compress(JOB), encoding).status_code == 202


def test_compressed_json_in_several_parts_is_read(client: FlaskClient) -> None:
    body = gzip.compress(JOB[:10]) + gzip.compress(JOB[10:])
    assert post(client, "/api/v1/jobs", body).status_code == 202


@pytest.mark.parametrize("encoding", ["identity", ""])
def test_body_without_compression_is_read(client: FlaskClient, encoding: str) -> None:
    assert post(client, "/api/v1/jobs", JOB, encoding).status_code == 202


def test_compressed_upload_is_stored_decompressed(client: FlaskClient, services: Services) -> None:
    multipart = (
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n%s\r\n--cut--\r\n' % TABLE
    )
    raw = post(client, "/api/v1/uploads", gzip.compress(TABLE), Content_Type="text/csv")
    form = post(client, "/api/v1/uploads", gzip.compress(multipart), Content_Type="multipart/form-data; boundary=cut")
    assert (raw.status_code, form.status_code) == (201, 201), raw.text + form.text
    for key in list_keys(services.files, "uploads"):
        assert path_on_disk(services.files, key).read_bytes() == TABLE


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "nonsense"])
@pytest.mark.parametrize("url", ["/api/v1/jobs", "/api/v1/uploads"])
def test_other_compression_is_refused(client: FlaskClient, services: Services, url: str, encoding: str) -> None:
    response = post(client, url, zlib.compress(JOB), encoding)
    assert (response.status_code, response.content_type) == (415, "application/problem+json")
    assert response.headers["Accept-Encoding"] == "gzip"
    assert list_keys(services.files, "uploads") == []


@pytest.mark.parametrize(
    "body",
    [JOB, COMPRESSED[:-9], COMPRESSED[:-4], COMPRESSED + b"rest", b"\x1f\x8b", b""],
    ids=["not compressed", "cut in the data", "cut in the sum", "longer", "cut in the head", "empty"],
)
@pytest.mark.parametrize("url", ["/api/v1/jobs", "/api/v1/uploads"])
def test_damaged_compression_is_refused(client: FlaskClient, services: Services, url: str, body: bytes) -> None:
    response = post(client, url, body)
    assert response.status_code == (422 if not body and url.endswith("uploads") else 400), response.text
    assert list_keys(services.files, "uploads") == []


# Werkzeug leaves the temporary file of a refused form to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("content_type", ["application/json", "text/csv", FORM, "multipart/form-data; boundary=cut"])
def test_small_body_that_becomes_large_is_refused_early(settings: Settings, content_type: str) -> None:
    app = create_app(settings.model_copy(update={"max_upload_bytes": MIB // 4}))
    url = "/api/v1/jobs" if content_type == "application/json" else "/api/v1/uploads"
    begin = (
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' if "cut" in content_type else b""
    )
    bomb = gzip.compress(begin + bytes(512 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        response = post(app.test_client(), url, bomb, Content_Type=content_type)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 413, response.text
    assert peak_bytes < 32 * MIB
    services: Services = get_context(app).services
    assert list_keys(services.files, "uploads") == []
    services.close()
    gc.collect()


@pytest.mark.parametrize("body", [b"file=@table.csv", b"data=@../my table.csv"])
def test_name_of_a_file_instead_of_the_file_is_refused_with_the_remedy(
    client: FlaskClient, services: Services, body: bytes
) -> None:
    response = client.post("/api/v1/uploads", data=body, content_type=FORM)
    assert response.status_code == 422
    problems: Any = response.json
    (problem,) = problems["errors"]
    assert (problem["pointer"], problem["code"]) == ("/file", "file-not-attached")
    assert f"curl -F {body.decode()!r}" in problem["detail"]
    assert list_keys(services.files, "uploads") == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (TABLE, FORM),  # what curl --data-binary @table.csv sends
        (b"file=@table.csv\n1,2\n", FORM),
        (b"file=@" + b"x" * 10_000, FORM),
        (b"file=@table.csv", "text/csv"),
    ],
)
def test_content_of_a_file_is_stored_whatever_it_looks_like(
    client: FlaskClient, services: Services, body: bytes, content_type: str
) -> None:
    assert client.post("/api/v1/uploads", data=body, content_type=content_type).status_code == 201
    (key,) = list_keys(services.files, "uploads")
    assert path_on_disk(services.files, key).read_bytes() == body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/jobs/", "/jobs"),
        ("/jobs/?state=queued&label=a%26b", "/jobs?state=queued&label=a%26b"),
        ("/api/v1/jobs/", "/api/v1/jobs"),
        ("/api/v1/jobs/?state=queued", "/api/v1/jobs?state=queued"),
        ("/healthz/", "/healthz"),
        ("/knn/", "/knn"),
        (f"/api/v1/jobs/{(job := '01a22c70-8a23-70de-991a-715f3188ae75')}/", f"/api/v1/jobs/{job}"),
        (f"/api/v1/jobs/{job}/artifacts/a%20b%3F.csv/", f"/api/v1/jobs/{job}/artifacts/a%20b%3F.csv"),
    ],
)
def test_address_with_a_slash_at_its_end_is_redirected(
    app: Flask, client: FlaskClient, method: str, path: str, location: str
) -> None:
    make_auth_headers(app, "ada")  # the redirect needs no key
    response = client.open(path, method=method)
    assert (response.status_code, response.headers["Location"]) == (308, location)


def test_redirected_submission_queues_the_job(client: FlaskClient) -> None:
    assert client.post("/api/v1/jobs/", data=JOB, follow_redirects=True).status_code == 202


@pytest.mark.parametrize("path", ["/nothing/", "/api/v1/nothing/", "/jobs/x/", "/%2F%2Fevil.example/"])
def test_unknown_address_with_a_slash_at_its_end_is_not_found(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, "Location" in response.headers) == (404, False)
