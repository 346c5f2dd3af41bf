"""The archive of a job's files: complete, readable, and never whole in memory."""

import io
import json
import os
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote
from zipfile import ZIP_STORED, ZipFile

import psutil
import pytest
import requests
from flask.testing import FlaskClient

from shared.client import Client, ClientError
from shared.client.__main__ import main
from shared.client.commands import Exit
from shared.services import Services
from shared.submission import submit
from tests.integration.conftest import ServeWeb
from tests.support.html_pages import Page
from tests.support.instances import ask
from tests.support.job_outcomes import MUSIC, Files, make_sample, succeed
from tests.support.raw_http import connect
from tests.support.waiting import DEADLINE_S, wait_until

# The archive does not depend on the database, so these tests run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PROMPT = "一首 / 悲伤的 🎵"
FILES: Files = {
    "audio-0.wav": ("audio/wav", b"first" * 100_000),
    "audio-1.wav": ("audio/wav", b"second"),
    "codes-0.npy": ("application/octet-stream", b""),
    "report.json": ("application/json", b"{}"),
}
NAMES = ["job.json", "一首 悲伤的 🎵 41.wav", "tiny 42.wav", "一首 悲伤的 🎵 41 codes.npy", "report.json"]
LARGE_FILES, LARGE_BYTES = 8, 2**25


def make_job(services: Services, files: Files = FILES) -> str:
    params = {"model": "mindjobs/tiny", "prompts": [PROMPT], "num_samples": 2, "duration_s": 1}
    job_id = submit.submit_job(services, {"kind": "musicgen", "params": params})[0].id
    samples = [make_sample(0, prompt=PROMPT, audio="audio-0.wav"), make_sample(1, audio="audio-1.wav")]
    succeed(services, job_id, MUSIC | {"samples": samples}, files)
    return job_id


def test_the_archive_has_every_file_by_its_download_name_and_the_parameters(
    client: FlaskClient, services: Services
) -> None:
    job_id = make_job(services)
    address = f"/api/v1/jobs/{job_id}/archive"
    response = client.get(address)
    assert (response.status_code, response.mimetype) == (HTTPStatus.OK, "application/zip")
    assert response.headers["Content-Disposition"] == f'attachment; filename="musicgen {job_id}.zip"'
    assert response.cache_control.private
    with ZipFile(io.BytesIO(response.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == NAMES
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
        assert [archive.read(name) for name in NAMES[1:]] == [content for _, content in FILES.values()]
        document = json.loads(archive.read("job.json"))
    assert document == client.get(f"/api/v1/jobs/{job_id}").json
    assert [artifact["filename"] for artifact in document["artifacts"]] == NAMES[1:]
    assert address in [link.get("href") for link in Page(client.get(f"/jobs/{job_id}").text).find_all("a")]


def test_a_file_is_downloaded_under_its_name_in_unicode_and_in_ascii(client: FlaskClient, services: Services) -> None:
    job_id = make_job(services)
    expected = "filename=41.wav; filename*=UTF-8''" + quote("一首 悲伤的 🎵 41.wav")
    for query, how in (("?download=1", "attachment"), ("", "inline")):
        with client.get(f"/api/v1/jobs/{job_id}/artifacts/audio-0.wav{query}") as response:
            assert response.headers["Content-Disposition"] == f"{how}; {expected}"
    with client.get(f"/jobs/{job_id}/samples/1.wav", follow_redirects=True) as response:
        assert response.headers["Content-Disposition"] == 'attachment; filename="tiny 42.wav"'


def test_head_and_conditions_of_the_archive(client: FlaskClient, services: Services) -> None:
    address = f"/api/v1/jobs/{make_job(services)}/archive"
    head = client.head(address)
    assert (head.status_code, head.mimetype, head.data) == (HTTPStatus.OK, "application/zip", b"")
    etag = head.headers["ETag"]
    assert client.get(address, headers={"If-None-Match": etag}).status_code == HTTPStatus.NOT_MODIFIED
    assert client.get(address, headers={"If-Match": '"other"'}).status_code == HTTPStatus.PRECONDITION_FAILED
    assert client.get(address, headers={"Range": "bytes=0-3"}).status_code == HTTPStatus.OK


def test_a_job_without_files_has_no_archive(client: FlaskClient, services: Services) -> None:
    queued = submit.submit_job(services, {"kind": "knn"})[0].id
    response = client.get(f"/api/v1/jobs/{queued}/archive")
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response.json is not None
    assert "has no files" in response.json["detail"]
    assert "Download all" not in client.get(f"/jobs/{queued}").text


def test_an_archive_whose_file_is_missing_is_refused_by_name(client: FlaskClient, services: Services) -> None:
    job_id = make_job(services)
    (file,) = services.settings.home.rglob("audio-1.wav")
    file.unlink()
    response = client.get(f"/api/v1/jobs/{job_id}/archive")
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response.json is not None
    assert "'audio-1.wav'" in response.json["detail"]


def list_open_files(web: psutil.Process, name: str) -> list[str]:
    return [
        file.path
        for process in [web, *web.children(recursive=True)]
        for file in process.open_files()
        if Path(file.path).name == name
    ]


def read_memory(web: psutil.Process) -> int:
    return sum(process.memory_info().rss for process in [web, *web.children(recursive=True)])


def test_a_large_archive_waits_for_its_client_and_its_file_is_closed_when_the_client_goes_away(
    serve_web: ServeWeb, services: Services
) -> None:
    process, settings = serve_web(web_processes=1, web_threads=4)
    web = psutil.Process(process.process.pid)
    content = os.urandom(LARGE_BYTES)
    files = {f"audio-{number}.wav": ("audio/wav", content) for number in range(LARGE_FILES)}
    job_id = make_job(services, files)
    before_bytes = read_memory(web)
    request = f"GET /api/v1/jobs/{job_id}/archive HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with connect(settings.port, request, receive_buffer=2**12) as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: list_open_files(web, "audio-0.wav"), "the first file to be open")
        assert ask(settings.port, "/healthz") == HTTPStatus.OK
    wait_until(lambda: not list_open_files(web, "audio-0.wav"), "the file to be closed")
    received = 0
    address = f"http://127.0.0.1:{settings.port}/api/v1/jobs/{job_id}/archive"
    with requests.get(address, stream=True, timeout=DEADLINE_S) as response:
        for part in response.iter_content(2**18):
            received += len(part)
    assert received > LARGE_FILES * LARGE_BYTES
    assert read_memory(web) - before_bytes < LARGE_FILES * LARGE_BYTES / 4


def test_an_archive_that_cannot_be_completed_is_recognised_by_the_client(
    serve_web: ServeWeb, services: Services, tmp_path: Path
) -> None:
    _, settings = serve_web(web_processes=1)
    files = {f"audio-{number}.wav": ("audio/wav", bytes(LARGE_BYTES)) for number in range(2)}
    job_id = make_job(services, files)
    server = f"http://127.0.0.1:{settings.port}"
    with requests.get(f"{server}/api/v1/jobs/{job_id}/archive", stream=True, timeout=DEADLINE_S) as response:
        parts = response.iter_content(2**16)
        next(parts)
        (file,) = services.settings.home.rglob("audio-1.wav")
        file.unlink()
        with pytest.raises(requests.RequestException):
            list(parts)
    with Client(server) as client, pytest.raises(ClientError, match="no longer exists"):
        client.download_archive(job_id, tmp_path / "all.zip")
    assert list(tmp_path.glob("*.zip")) == list(tmp_path.glob(".*.part")) == []


def test_the_command_downloads_an_archive_and_overwrites_nothing(
    serve_web: ServeWeb, services: Services, tmp_path: Path
) -> None:
    _, settings = serve_web(web_processes=1)
    job_id = make_job(services)
    words = ["archive", job_id, "--to", str(tmp_path / "all.zip"), "--server", f"http://127.0.0.1:{settings.port}"]
    assert main(words) is Exit.DONE
    with ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == NAMES
    assert main(words) is Exit.REFUSED
