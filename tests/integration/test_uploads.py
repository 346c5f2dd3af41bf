"""The owner of uploads lists, reads and deletes them; an upload that an unended job names is never deleted."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from shared.database import transitions
from shared.database.tables import Job, Upload
from shared.database.uploads import MAX_NAMED_JOBS
from shared.errors import ConflictError, RequestInvalidError
from shared.jobs import ANONYMOUS
from shared.schemas.submission import ParsedSubmission
from shared.services import Services
from shared.settings import Settings
from shared.submission import delete, submit
from shared.submission.checks import check_submission
from tests.support.auth_headers import make_auth_headers
from tests.support.disks import list_keys
from tests.support.job_outcomes import start_job, store_upload
from web import create_app
from web.context import get_context

TABLE = b"k,a\nx,1\ny,2\n"


def upload(client: FlaskClient, headers: dict[str, str] | None = None) -> dict[str, Any]:
    response = client.post("/api/v1/uploads", data=TABLE, headers={"Content-Type": "text/csv"} | (headers or {}))
    assert response.status_code == 201, response.text
    return read(response)


def read(response: TestResponse) -> dict[str, Any]:
    assert isinstance(response.json, dict), response.text
    return response.json


def make_body(upload_id: str) -> dict[str, Any]:
    params = {"dataset": {"upload": upload_id, "label": "k"}, "k": 1, "evaluation": {"method": "loo"}}
    return {"kind": "knn", "device": "cpu", "params": params}


def list_rows(services: Services) -> tuple[list[str], list[str]]:
    """Return the ids of all uploads and of all jobs."""
    with services.database.reading() as session:
        return list(session.scalars(select(Upload.id))), list(session.scalars(select(Job.id)))


def test_uploads_are_listed_in_pages_newest_first(client: FlaskClient) -> None:
    uploads = [upload(client) for _ in range(5)]
    listed: list[dict[str, Any]] = []
    query = "limit=2"
    for length in (2, 2, 1):
        page = read(client.get(f"/api/v1/uploads?{query}"))
        assert len(page["uploads"]) == length
        listed += page["uploads"]
        query = f"limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert listed == uploads[::-1]


def test_upload_is_described_with_the_time_until_which_it_is_kept(client: FlaskClient, settings: Settings) -> None:
    stored = upload(client)
    assert read(client.get(f"/api/v1/uploads/{stored['id']}")) == stored
    created_at, kept_until = (datetime.fromisoformat(stored[name]) for name in ("created_at", "kept_until"))
    assert kept_until - created_at == timedelta(days=settings.retention_days)


def test_upload_that_is_kept_longer_than_any_date_has_no_end(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"retention_days": 1e9}))
    assert upload(app.test_client())["kept_until"] is None
    get_context(app).services.close()


@pytest.mark.parametrize(
    ("query", "pointer"), [("limit=0", "/limit"), ("cursor=x", "/cursor"), ("state=queued", "/state")]
)
def test_invalid_query_of_the_list_is_refused(client: FlaskClient, query: str, pointer: str) -> None:
    response = client.get(f"/api/v1/uploads?{query}")
    assert response.status_code == 422
    assert [problem["pointer"] for problem in read(response)["errors"]] == [pointer]


def test_deletion_removes_the_upload_and_its_file(client: FlaskClient, services: Services) -> None:
    first, second = upload(client), upload(client)
    response = client.delete(f"/api/v1/uploads/{first['id']}")
    assert (response.status_code, response.data) == (204, b"")
    assert client.get(f"/api/v1/uploads/{first['id']}").status_code == 404
    assert client.delete(f"/api/v1/uploads/{first['id']}").status_code == 404
    assert list_keys(services.files, "uploads") == [f"uploads/{second['id']}"]
    refused = client.post("/api/v1/jobs", json=make_body(first["id"]))
    assert [problem["code"] for problem in read(refused)["errors"]] == ["upload-not-found"]


def test_uploads_of_other_keys_are_not_found(app: Flask, client: FlaskClient, services: Services) -> None:
    ada, bob = (make_auth_headers(app, name) for name in ("ada", "bob"))
    stored = upload(client, ada)
    url = f"/api/v1/uploads/{stored['id']}"
    assert client.get(url, headers=bob).status_code == 404
    assert client.delete(url, headers=bob).status_code == 404
    assert read(client.get("/api/v1/uploads", headers=bob)) == {"uploads": [], "next_cursor": None}
    assert read(client.get("/api/v1/uploads", headers=ada))["uploads"] == [stored]
    assert client.get("/api/v1/uploads").status_code == 401
    assert len(list_keys(services.files, "uploads")) == 1


@pytest.mark.parametrize("upload_id", ["nonsense", "01a22c65-e0ec-72c5-9c9c-e9acfaa9ead8", "a%00b"])
def test_unknown_upload_is_not_found(client: FlaskClient, upload_id: str) -> None:
    for call in (client.get, client.delete):
        response = call(f"/api/v1/uploads/{upload_id}")
        assert (response.status_code, response.content_type) == (404, "application/problem+json")


def test_upload_that_an_unended_job_names_is_kept_until_the_job_has_ended(
    client: FlaskClient, services: Services
) -> None:
    stored = upload(client)
    url = f"/api/v1/uploads/{stored['id']}"
    job_id = read(client.post("/api/v1/jobs", json=make_body(stored["id"])))["id"]
    refused = client.delete(url)
    assert (refused.status_code, read(refused)["type"]) == (409, "conflict")
    assert job_id in read(refused)["detail"]
    start_job(services)
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert client.delete(url).status_code == 409
    transitions.requeue_jobs_of(services.database, "box:1")  # cancels the job, since this was requested
    assert client.delete(url).status_code == 204


def test_conflict_names_only_some_of_many_jobs(client: FlaskClient) -> None:
    stored = upload(client)
    ids = [read(client.post("/api/v1/jobs", json=make_body(stored["id"])))["id"] for _ in range(MAX_NAMED_JOBS + 1)]
    detail = read(client.delete(f"/api/v1/uploads/{stored['id']}"))["detail"]
    assert [job_id for job_id in ids if job_id in detail] == ids[:MAX_NAMED_JOBS]
    assert "…" in detail


def test_upload_deleted_between_the_check_and_the_insertion_refuses_the_submission(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store_upload(services, TABLE)

    def check_then_delete(*arguments: Any) -> ParsedSubmission:
        checked = check_submission(*arguments)
        delete.delete_upload(services, stored.id, ANONYMOUS)
        return checked

    monkeypatch.setattr(submit, "check_submission", check_then_delete)
    with pytest.raises(RequestInvalidError) as caught:
        submit.submit_job(services, make_body(stored.id))
    assert [(it.pointer, it.code) for it in caught.value.problems] == [("/params/dataset/upload", "upload-not-found")]
    assert list_rows(services) == ([], [])


def test_deletion_and_submission_at_the_same_time_never_leave_a_job_without_its_upload(services: Services) -> None:
    ended: list[str] = []
    for _ in range(20):
        stored = store_upload(services, TABLE)
        start_line = threading.Barrier(2)

        def run(act: Any, *arguments: object, start_line: threading.Barrier = start_line) -> str:
            start_line.wait()
            try:
                act(services, *arguments)
            except (ConflictError, RequestInvalidError):
                return "refused"
            return "done"

        with ThreadPoolExecutor(2) as pool:
            submitted = pool.submit(run, submit.submit_job, make_body(stored.id))
            deleted = pool.submit(run, delete.delete_upload, stored.id, ANONYMOUS)
            ended.append(f"{submitted.result()} {deleted.result()}")
    assert set(ended) <= {"done refused", "refused done"}
    uploads, jobs = list_rows(services)
    assert len(uploads) == len(jobs) == ended.count("done refused")
