"""The API submits, returns, lists, cancels, retries and deletes jobs, on both databases."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, update
from werkzeug.test import TestResponse

from shared import api_keys
from shared.database import queries, transitions
from shared.database.connection import now
from shared.database.tables import Job, Upload
from shared.ids import make_id
from shared.jobs import TIMED_OUT, DeviceClass, Outcome, Progress, State, StoredFile
from shared.services import Services
from shared.settings import Settings
from tests.support.disks import path_on_disk
from tests.support.job_outcomes import register_worker, start_job
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

WINE = {"kind": "knn", "params": {"dataset": {"name": "wine"}}, "device": "cpu"}


@pytest.fixture
def endless_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of long polls: a long poll then returns when the job changes, and never reaches its time limit."""
    monkeypatch.setattr("web.long_poll.time", SimpleNamespace(monotonic=lambda: 0.0, sleep=time.sleep))


def submit(client: FlaskClient, body: object = WINE, **headers: str) -> dict[str, Any]:
    response = client.post("/api/v1/jobs", json=body, headers=headers)
    assert response.status_code in {200, 202}, response.text
    return read(response)


def read(response: TestResponse) -> dict[str, Any]:
    assert isinstance(response.json, dict)
    return response.json


def end(services: Services, *files: StoredFile) -> None:
    transitions.finish(services.database, start_job(services), Outcome(State.SUCCEEDED, {"best_k": 5}, files=files))


def test_submission_returns_the_whole_job(client: FlaskClient) -> None:
    response = client.post("/api/v1/jobs", json=WINE)
    job = read(response)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert response.headers["Retry-After"] == "1"
    assert job["params"] == {
        "dataset": {"name": "wine"},
        "task": "classification",
        "k": 5,
        "metric": "euclidean",
        "p": 2.0,
        "weights": "uniform",
        "normalise": "none",
        "ties": "shuffled",
        "evaluation": {"method": "holdout", "train_size": 128, "seed": 0, "stratify": "auto"},
    }
    expected = {"state": "queued", "attempt": 0, "max_attempts": 3, "priority": 5, "result": None, "artifacts": []}
    assert job | expected == job
    assert read(client.get(response.headers["Location"])) == job


def test_estimate_uses_the_speed_of_the_current_stage_only(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    assert read(client.get(url))["eta_s"] is None
    lease = start_job(services)
    assert read(client.get(url))["eta_s"] is None

    def beat(stage: str, done: int) -> float | None:
        transitions.heartbeat(services.database, lease, Progress(stage, done, 1_000, "steps"), 60.0)
        # As if the job had started 20 hours ago, and the current stage 10 hours ago.
        with services.database.writing() as session:
            session.execute(update(Job).values(started_at=now(-72_000), stage_started_at=now(-36_000)))
        eta_s: float | None = read(client.get(url))["eta_s"]
        return eta_s

    assert beat("loading", 0) is None
    assert beat("loading", 500) == pytest.approx(36_000, rel=0.01)
    # The first report of a stage gives no speed: an earlier attempt may have done these steps.
    assert beat("generating", 400) is None
    assert beat("generating", 800) == pytest.approx(18_000, rel=0.01)
    assert beat("generating", 1_000) == 0
    assert beat("generating", 1_001) is None  # more steps than the total: no estimate is possible
    transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {}))
    assert read(client.get(url))["eta_s"] is None


def test_queue_position_counts_the_jobs_ahead(client: FlaskClient) -> None:
    jobs = [submit(client, WINE | {"priority": priority}) for priority in (5, 5, 9, 1)]
    positions = [read(client.get(f"/api/v1/jobs/{job['id']}"))["queue_position"] for job in jobs]
    assert positions == [1, 2, 0, 3]


def test_same_idempotency_key_and_body_return_the_same_job(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "k1"}
    first = client.post("/api/v1/jobs", json=WINE, headers=key)
    again = client.post("/api/v1/jobs", json=WINE, headers=key)
    other = client.post("/api/v1/jobs", json=WINE | {"priority": 1}, headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert read(first)["id"] == read(again)["id"]
    assert read(other)["type"] == "idempotency-key-reused"


def test_same_idempotency_key_and_job_return_the_same_retry(client: FlaskClient, services: Services) -> None:
    jobs = [submit(client) for _ in range(2)]
    for _ in jobs:
        end(services)
    url, other_url = (f"/api/v1/jobs/{job['id']}/retry" for job in jobs)
    key = {"Idempotency-Key": "k1"}
    first, again = client.post(url, headers=key), client.post(url, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert read(first)["id"] == read(again)["id"]
    assert first.headers["Location"] == again.headers["Location"]
    for reused in (client.post(other_url, headers=key), client.post("/api/v1/jobs", json=WINE, headers=key)):
        assert (reused.status_code, read(reused)["type"]) == (422, "idempotency-key-reused")
    assert client.post(url, headers={"Idempotency-Key": "k2"}).status_code == 202
    assert client.post(url, headers={"Idempotency-Key": ""}).status_code == 400


def test_fifty_concurrent_retries_with_one_idempotency_key_create_one_job(app: Flask, services: Services) -> None:
    job = submit(app.test_client())
    end(services)
    start_line = threading.Barrier(50)

    def retry_once(_: int) -> str:
        start_line.wait()
        response = app.test_client().post(f"/api/v1/jobs/{job['id']}/retry", headers={"Idempotency-Key": "once"})
        return str(read(response)["id"])

    with ThreadPoolExecutor(50) as pool:
        assert len(set(pool.map(retry_once, range(50)))) == 1


def test_fifty_concurrent_submissions_with_one_idempotency_key_create_one_job(app: Flask) -> None:
    start_line = threading.Barrier(50)

    def submit_once(_: int) -> str:
        start_line.wait()
        return str(submit(app.test_client(), WINE, **{"Idempotency-Key": "once"})["id"])

    with ThreadPoolExecutor(50) as pool:
        assert len(set(pool.map(submit_once, range(50)))) == 1
    assert len(read(app.test_client().get("/api/v1/jobs"))["jobs"]) == 1


def test_unchanged_job_returns_not_modified(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    same = client.get(url, headers={"If-None-Match": etag})
    assert (same.status_code, same.data) == (304, b"")
    end(services)
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.usefixtures("endless_polls")
def test_wait_ends_when_the_job_changes(app: Flask, client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    slots = get_context(app).long_poll_slots._slots
    free = slots._value
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(app.test_client().get, url, headers={"Prefer": "wait=30", "If-None-Match": etag})
        wait_until(lambda: slots._value < free, "the long poll")
        start_job(services)
        response = waiting.result()
    assert read(response)["state"] == "running"
    assert response.headers["Preference-Applied"] == "wait=30"


@pytest.mark.usefixtures("endless_polls")
def test_wait_for_a_change_that_has_already_happened_returns_at_once(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    start_job(services)
    assert read(client.get(url, headers={"Prefer": "wait=60", "If-None-Match": etag}))["state"] == "running"


@pytest.mark.parametrize("seconds", ["60", "9999999", "0" * 7 + "77", "9" * 5_000])
def test_wait_above_the_maximum_is_limited_to_the_maximum(client: FlaskClient, seconds: str) -> None:
    job = submit(client)
    url = f"/api/v1/jobs/{job['id']}"
    client.post(f"{url}/cancel")  # the response comes at once, since the job has ended
    response = client.get(url, headers={"Prefer": f"respond-async, wait={seconds}"})
    assert response.headers["Preference-Applied"] == "wait=60"


def test_wait_without_a_change_returns_not_modified(client: FlaskClient) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    assert client.get(url, headers={"Prefer": "wait=1", "If-None-Match": etag}).status_code == 304


@pytest.mark.usefixtures("endless_polls")
def test_submission_can_wait_for_the_end_of_the_job(client: FlaskClient, services: Services) -> None:
    def end_when_queued() -> None:
        def is_queued() -> bool:
            with services.database.reading() as session:
                return bool(queries.list_jobs(session, queries.JobFilter(), limit=1))

        wait_until(is_queued, "the job")
        end(services)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end_when_queued)
        job = submit(client, WINE, Prefer="wait=30")
        ended.result()
    assert job["state"] == "succeeded"


@pytest.mark.usefixtures("endless_polls")
def test_long_polls_leave_a_thread_free(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"web_threads": 2}))  # one long-poll slot
    client = app.test_client()
    url = f"/api/v1/jobs/{submit(client)['id']}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(app.test_client().get, url, headers={"Prefer": "wait=60"})
        wait_until(lambda: get_context(app).long_poll_slots._slots._value == 0, "the slot to be reserved")
        second = client.get(url, headers={"Prefer": "wait=60"})
        assert "Preference-Applied" not in second.headers
        client.post(f"{url}/cancel")
        assert read(waiting.result())["state"] == "cancelled"
    get_context(app).services.close()


def test_repeated_submission_returns_the_same_job_after_the_upload_is_deleted(
    client: FlaskClient, services: Services
) -> None:
    upload = client.post("/api/v1/uploads", data=b"k,a\nx,1\ny,2\n").json
    assert upload is not None
    params = {"dataset": {"upload": upload["id"], "label": "k"}, "k": 1, "evaluation": {"method": "loo"}}
    body = {"kind": "knn", "params": params}
    first = submit(client, body, **{"Idempotency-Key": "k1"})
    with services.database.writing() as session:
        session.execute(delete(Upload))
    assert submit(client, body, **{"Idempotency-Key": "k1"})["id"] == first["id"]


def test_job_with_the_longest_timeout_can_be_retried(
    client: FlaskClient, services: Services, settings: Settings
) -> None:
    job = submit(client, WINE | {"timeout_s": settings.max_timeout_s})
    end(services)
    assert client.post(f"/api/v1/jobs/{job['id']}/retry").status_code == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 400),
    ],
)
def test_pages_of_other_sites_cannot_submit(client: FlaskClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/v1/jobs", json=WINE, headers=headers).status_code == status


def test_only_a_refused_request_gets_its_retry_after_header_from_the_rate_limit(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"requests_per_minute": 2}))
    services: Services = get_context(app).services
    client = app.test_client()
    headers = {"Authorization": f"Bearer {api_keys.create_key(services.database, 'eager')}"}
    responses = [client.post("/api/v1/jobs", json=WINE, headers=headers) for _ in range(3)]
    services.close()
    assert [response.status_code for response in responses] == [202, 202, 429]
    assert {response.headers["Retry-After"] for response in responses[:2]} == {"1"}
    assert 0 <= int(responses[2].headers["Retry-After"]) <= 60


def test_unreachable_database_returns_503(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        app = create_app(settings.model_copy(update={"database_url": f"postgresql://127.0.0.1:{port}/x"}))
        response = app.test_client().get("/api/v1/jobs")
        assert (response.status_code, read(response)["type"]) == (503, "database-unavailable")
        assert response.headers["Retry-After"]
        get_context(app).services.close()


def test_jobs_are_listed_in_pages_newest_first(client: FlaskClient) -> None:
    ids = [submit(client)["id"] for _ in range(5)]
    listed: list[str] = []
    url = "/api/v1/jobs?limit=2"
    cursors: list[str | None] = []
    while True:
        page = read(client.get(url + (f"&cursor={cursors[-1]}" if cursors else "")))
        listed += [job["id"] for job in page["jobs"]]
        cursors.append(page["next_cursor"])
        if cursors[-1] is None:
            break
    assert listed == ids[::-1]
    assert len(cursors) == 3


def test_list_of_jobs_is_filtered(client: FlaskClient, services: Services) -> None:
    ended = submit(client)
    end(services)
    labelled = submit(client, WINE | {"labels": {"team": "a"}})
    music = submit(client, {"kind": "musicgen", "device": "gpu"})

    def find(query: str) -> set[str]:
        return {job["id"] for job in read(client.get(f"/api/v1/jobs?{query}"))["jobs"]}

    assert find("state=succeeded") == {ended["id"]}
    assert find("state=queued&state=succeeded") == {ended["id"], labelled["id"], music["id"]}
    assert find("state=queued&state=succeeded&label.team=a&state=queued") == {labelled["id"]}
    assert find("state=running&state=failed") == set()
    assert find("kind=musicgen") == {music["id"]}
    assert find("device=gpu") == {music["id"]}
    assert find("label.team=a") == {labelled["id"]}
    assert find("label.team=b") == set()
    after = labelled["created_at"].replace("+", "%2B")
    assert music["id"] in find(f"created_after={after}")
    assert ended["id"] not in find(f"created_after={after}")
    assert ended["id"] in find(f"created_before={after}")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("state=done", "/state"),
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("cursor=x", "/cursor"),
        ("created_after=yesterday", "/created_after"),
        ("created_after=2026-01-01T00:00:00", "/created_after"),
        ("created_after=1767225600", "/created_after"),
        ("colour=red", "/colour"),
        ("label.x=%00", "/x"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "/created_after"),
        ("state=queued&state=done", "/state"),
        ("kind=knn&kind=musicgen", "/kind"),
        ("label.a=x&label.a=y", "/label.a"),
    ],
)
def test_invalid_query_parameter_is_reported_by_its_name(client: FlaskClient, query: str, pointer: str) -> None:
    response = client.get(f"/api/v1/jobs?{query}")
    assert response.status_code == 422
    assert [problem["pointer"] for problem in read(response)["errors"]] == [pointer]


@pytest.mark.parametrize("time", ["2026-01-31T12:00:00 01:00", "2026-01-31T12:00:00.5 0100", "2026-01-31T12:00 01"])
def test_time_with_an_unescaped_plus_is_refused_with_the_remedy(client: FlaskClient, time: str) -> None:
    (problem,) = read(client.get(f"/api/v1/jobs?created_after={time}"))["errors"]
    assert problem["code"] == "timestamp-plus-unescaped"
    assert "%2B" in problem["detail"]
    assert client.get("/api/v1/jobs?created_after=2026-01-31 12:00:00Z").status_code == 200


def test_pages_of_a_list_of_two_states_follow_each_other(client: FlaskClient) -> None:
    ids = [submit(client)["id"] for _ in range(5)]
    for job_id in ids[::2]:
        client.post(f"/api/v1/jobs/{job_id}/cancel")
    listed: list[str] = []
    cursor = ""
    for _ in range(3):
        page = read(client.get(f"/api/v1/jobs?state=queued&state=cancelled&limit=2{cursor}"))
        listed += [job["id"] for job in page["jobs"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert (listed, page["next_cursor"]) == (ids[::-1], None)


def test_cancellation_of_an_ended_job_says_how_the_job_ended(client: FlaskClient, services: Services) -> None:
    cancelled, succeeded, failed = (submit(client)["id"] for _ in range(3))
    client.post(f"/api/v1/jobs/{cancelled}/cancel")
    transitions.finish(services.database, start_job(services, succeeded), Outcome(State.SUCCEEDED, {}))
    transitions.finish(services.database, start_job(services, failed), TIMED_OUT)
    details = [
        read(client.post(f"/api/v1/jobs/{job_id}/cancel"))["detail"] for job_id in (cancelled, succeeded, failed)
    ]
    assert details[0].startswith(f"Job {cancelled} was cancelled.")
    assert details[1].startswith(f"Job {succeeded} has succeeded and")
    assert details[2].startswith(f"Job {failed} has failed and")


def test_cancellation_ends_a_queued_job_at_once_and_is_requested_for_a_running_job(
    client: FlaskClient, services: Services
) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    cancelled = client.post(f"{url}/cancel")
    assert (cancelled.status_code, read(cancelled)["state"]) == (202, "cancelled")
    assert client.post(f"{url}/cancel").status_code == 409
    running = submit(client)
    start_job(services)
    requested = client.post(f"/api/v1/jobs/{running['id']}/cancel")
    assert requested.status_code == 202
    assert read(requested) | {"state": "running", "cancel_requested": True} == read(requested)


def test_retry_creates_a_new_job(client: FlaskClient, services: Services) -> None:
    first = submit(client, WINE | {"priority": 7, "labels": {"a": "b"}, "timeout_s": 100})
    url = f"/api/v1/jobs/{first['id']}/retry"
    assert client.post(url).status_code == 409
    end(services)
    response = client.post(url)
    again = read(response)
    assert response.status_code == 202
    assert again["retry_of"] == first["id"] != again["id"]
    for name in ("params", "priority", "labels", "kind"):
        assert again[name] == first[name]


def test_deletion_removes_the_job_and_its_files(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    url = f"/api/v1/jobs/{job['id']}"
    assert client.delete(url).status_code == 409
    written = services.files.put(f"jobs/{job['id']}/1/a.txt", [b"a"])
    end(services, StoredFile("a.txt", written.key, "text/plain", 1, written.sha256))
    response = client.delete(url)
    assert (response.status_code, response.data) == (204, b"")
    assert not path_on_disk(services.files, written.key).exists()
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404


def test_artifact_is_sent_whole_and_in_ranges(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    written = services.files.put(f"jobs/{job['id']}/1/scores.csv", [b"0123", b"456789"])
    end(services, StoredFile("scores.csv", written.key, "text/csv", written.bytes, written.sha256))
    (artifact,) = read(client.get(f"/api/v1/jobs/{job['id']}"))["artifacts"]
    fetch = partial(client.get, buffered=True)  # `buffered` makes the client read and close the file, as a server does
    whole = fetch(artifact["url"])
    assert (whole.data, whole.headers["ETag"]) == (b"0123456789", f'"{written.sha256}"')
    assert whole.headers["Content-Type"].startswith("text/csv")
    assert whole.headers["Content-Disposition"].startswith("inline")
    part = fetch(artifact["url"], headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.data, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    beyond = fetch(artifact["url"], headers={"Range": "bytes=50-"})
    assert beyond.status_code == 416
    known = fetch(artifact["url"], headers={"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304
    saved = fetch(artifact["url"] + "?download=1")
    assert saved.headers["Content-Disposition"] == "attachment; filename=scores.csv"
    assert fetch(artifact["url"] + "x").status_code == 404
    services.files.remove(written.key)
    assert fetch(artifact["url"]).status_code == 404


@pytest.mark.parametrize("call", ["get", "delete"])
@pytest.mark.parametrize("job_id", ["nonsense", pytest.param(make_id(), id="unknown"), "..%2f..%2fetc%2fpasswd"])
def test_unknown_job_is_not_found(client: FlaskClient, call: str, job_id: str) -> None:
    response = getattr(client, call)(f"/api/v1/jobs/{job_id}")
    assert (response.status_code, response.content_type) == (404, "application/problem+json")
    assert response.headers["X-Request-ID"]


def test_every_response_has_the_id_of_its_request(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    assert client.get("/healthz", headers={"X-Request-ID": "not mine\t!"}).headers["X-Request-ID"] != "not mine\t!"


def test_service_returns_its_health_and_lists_its_data_sets_and_its_devices(client: FlaskClient) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json == {"status": "ready"}
    (wine,) = read(client.get("/api/v1/datasets"))["datasets"]
    assert (wine["name"], wine["rows"], len(wine["columns"])) == ("wine", 178, 13)
    submit(client)
    devices = {device["device"]: device for device in read(client.get("/api/v1/devices"))["devices"]}
    assert devices["cpu"] == {
        "device": "cpu",
        "workers_alive": 0,
        "workers_stalled": [],
        "engines": {},
        "precisions": {},
        "queued": 1,
        "running": 0,
    }
    assert set(devices) == {"ascend", "gpu", "cpu"}


def test_devices_list_the_precisions_of_all_live_workers(client: FlaskClient, services: Services) -> None:
    kinds = ["knn", "musicgen"]
    offers = {"a": ["int8", "float32"], "b": ["bfloat16", "int8"]}
    for name, offered in offers.items():
        register_worker(services, name, DeviceClass.CPU, kinds=kinds, precisions={"musicgen": offered})
    devices = {device["device"]: device for device in read(client.get("/api/v1/devices"))["devices"]}
    assert devices["cpu"]["precisions"] == {"musicgen": ["int8", "float32", "bfloat16"]}
    assert devices["gpu"]["precisions"] == {}
