"""Responses with files from a file store that has local files, and from a file store that signs addresses."""

from http import HTTPStatus
from pathlib import Path

import pytest
from flask import Flask

from shared.files.local import LocalFileStore
from tests.support.memory_files import MemoryFileStore
from web.stored_files import send_stored_file


@pytest.fixture
def app() -> Flask:
    return Flask("test")


def test_local_file_is_sent(app: Flask, tmp_path: Path) -> None:
    files = LocalFileStore(tmp_path)
    files.put("jobs/a/1/x.txt", [b"abc"])
    with app.test_request_context(headers={"Range": "bytes=1-"}):
        response = send_stored_file(files, "jobs/a/1/x.txt", "text/plain", "x.txt", as_attachment=False, etag="e")
        response.direct_passthrough = False
        assert (response.status_code, response.get_data()) == (HTTPStatus.PARTIAL_CONTENT, b"bc")
    response.close()


def test_request_for_a_file_with_a_signed_address_is_redirected(app: Flask) -> None:
    files = MemoryFileStore()
    files.put("jobs/a/1/x.txt", [b"abc"])
    with app.test_request_context():
        response = send_stored_file(files, "jobs/a/1/x.txt", "text/plain", "x.txt", as_attachment=False, etag="e")
    assert response.status_code == HTTPStatus.TEMPORARY_REDIRECT
    assert response.location == files.download_source("jobs/a/1/x.txt").url


def test_missing_file_raises_file_not_found_error(app: Flask, tmp_path: Path) -> None:
    for files in (LocalFileStore(tmp_path), MemoryFileStore()):
        with app.test_request_context(), pytest.raises(FileNotFoundError):
            send_stored_file(files, "jobs/a/1/x.txt", "text/plain", "x.txt", as_attachment=False)
