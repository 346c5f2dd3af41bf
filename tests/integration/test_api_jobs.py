"""The API's jobs, on both databases."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
from shared.jobs import Outcome, Progress, State, StoredFile
from shared.services import Services
from shared.settings import Settings
from tests.support.disks import path_on_disk
from tests.support.job_outcomes import start_job
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

WINE = {"kind": "knn", "params": {"dataset": {"name": "wine"}}, "device": "cpu"}


def submit(client: FlaskClient, body: object = WINE, **headers: str) -> dict[str, Any]:
    answer = client.post("/api/v1/jobs", json=body, headers=headers)
    assert answer.status_code in {200, 202}, answer.text
    return read(answer)


def read(answer: TestResponse) -> dict[str, Any]:
    assert isinstance(answer.json, dict)
    return answer.json


def end(services: Services, *files: StoredFile) -> None:
    transitions.finish(services.database, start_job(services), Outcome(State.SUCCEEDED, {"best_k": 5}, files=files))


def test_a_submission_answers_with_the_whole_job(client: FlaskClient) -> None:
    answer = client.post("/api/v1/jobs", json=WINE)
    job = read(answer)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert job["params"] == {
        "dataset": {"name": "wine"},
        "task": "classification",
        "k": 5,
        "metric": "euclidean",
        "p": 2.0,
        "weights": "uniform",
        "normalise": "none",
        "evaluation": {"method": "holdout", "train_size": 128, "seed": 0},
    }
    expected = {"state": "queued", "attempt": 0, "max_attempts": 3, "priority": 5, "result": None, "artifacts": []}
    assert job | expected == job
    assert read(client.get(answer.headers["Location"])) == job


def test_the_time_left_is_that_of_the_stage_at_its_own_pace(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    assert read(client.get(url))["eta_s"] is None
    lease = start_job(services)
    assert read(client.get(url))["eta_s"] is None

    def beat(stage: str, done: int) -> float | None:
        transitions.heartbeat(services.database, lease, Progress(stage, done, 1_000, "steps"), 60.0)
        with services.database.writing() as session:  # as though ten hours had passed since
            session.execute(update(Job).values(started_at=now(-72_000), stage_started_at=now(-36_000)))
        eta_s: float | None = read(client.get(url))["eta_s"]
        return eta_s

    assert beat("loading", 0) is None
    assert beat("loading", 500) == pytest.approx(36_000, rel=0.01)
    assert beat("generating", 400) is None  # what an earlier attempt did has no pace
    assert beat("generating", 800) == pytest.approx(18_000, rel=0.01)
    assert beat("generating", 1_000) == 0
    assert beat("generating", 1_001) is None  # more than there was to do: anybody's guess
    transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {}))
    assert read(client.get(url))["eta_s"] is None


def test_queue_positions_count_who_goes_first(client: FlaskClient) -> None:
    jobs = [submit(client, WINE | {"priority": priority}) for priority in (5, 5, 9, 1)]
    positions = [read(client.get(f"/api/v1/jobs/{job['id']}"))["queue_position"] for job in jobs]
    assert positions == [1, 2, 0, 3]


def test_the_same_key_and_body_give_the_same_job(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "k1"}
    first = client.post("/api/v1/jobs", json=WINE, headers=key)
    again = client.post("/api/v1/jobs", json=WINE, headers=key)
    other = client.post("/api/v1/jobs", json=WINE | {"priority": 1}, headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert read(first)["id"] == read(again)["id"]
    assert read(other)["type"] == "idempotency-key-reused"


def test_fifty_submissions_at_once_with_one_key_are_one_job(app: Flask) -> None:
    start_line = threading.Barrier(50)

    def ask(_: int) -> str:
        start_line.wait()
        return str(submit(app.test_client(), WINE, **{"Idempotency-Key": "once"})["id"])

    with ThreadPoolExecutor(50) as pool:
        assert len(set(pool.map(ask, range(50)))) == 1
    assert len(read(app.test_client().get("/api/v1/jobs"))["jobs"]) == 1


def test_an_unchanged_job_is_not_sent_again(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    same = client.get(url, headers={"If-None-Match": etag})
    assert (same.status_code, same.data) == (304, b"")
    end(services)
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 200


def test_waiting_ends_when_something_changes(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    change = threading.Timer(0.1, start_job, [services])
    change.start()
    # Were the first change missed, the answer would come with the second.
    second_change = threading.Timer(10, client.post, [f"{url}/cancel"])
    second_change.start()
    answer = client.get(url, headers={"Prefer": "wait=30", "If-None-Match": etag})
    second_change.cancel()
    change.join()
    second_change.join()
    assert not read(answer)["cancel_requested"]
    assert read(answer)["state"] == "running"
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_waiting_for_a_change_that_has_happened_already_does_not_wait(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    start_job(services)
    assert read(client.get(url, headers={"Prefer": "wait=60", "If-None-Match": etag}))["state"] == "running"


def test_a_wait_in_vain_says_that_nothing_changed(client: FlaskClient) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    etag = client.get(url).headers["ETag"]
    assert client.get(url, headers={"Prefer": "wait=1", "If-None-Match": etag}).status_code == 304


def test_a_submission_may_wait_for_the_end(client: FlaskClient, services: Services) -> None:
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


def test_waiting_never_takes_the_last_thread(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"web_threads": 2}))  # one seat
    client = app.test_client()
    url = f"/api/v1/jobs/{submit(client)['id']}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(app.test_client().get, url, headers={"Prefer": "wait=60"})
        wait_until(lambda: get_context(app).long_poll_slots._slots._value == 0, "the seat to be taken")
        standing = client.get(url, headers={"Prefer": "wait=60"})
        assert "Preference-Applied" not in standing.headers
        client.post(f"{url}/cancel")
        assert read(waiting.result())["state"] == "cancelled"
    get_context(app).services.close()


def test_a_repeated_request_is_known_though_its_upload_is_gone(client: FlaskClient, services: Services) -> None:
    upload = client.post("/api/v1/uploads", data=b"k,a\nx,1\ny,2\n").json
    assert upload is not None
    params = {"dataset": {"upload": upload["id"], "label": "k"}, "k": 1, "evaluation": {"method": "loo"}}
    body = {"kind": "knn", "params": params}
    first = submit(client, body, **{"Idempotency-Key": "k1"})
    with services.database.writing() as session:
        session.execute(delete(Upload))
    assert submit(client, body, **{"Idempotency-Key": "k1"})["id"] == first["id"]


def test_the_longest_timeout_can_be_retried(client: FlaskClient, services: Services, settings: Settings) -> None:
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
def test_other_sites_cannot_submit(client: FlaskClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/v1/jobs", json=WINE, headers=headers).status_code == status


def test_when_to_ask_again_is_the_job_s_to_say_and_the_limiter_s_once_it_refuses(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"requests_per_minute": 2}))
    services: Services = get_context(app).services
    client = app.test_client()
    headers = {"Authorization": f"Bearer {api_keys.create_key(services.database, 'eager')}"}
    answers = [client.post("/api/v1/jobs", json=WINE, headers=headers) for _ in range(3)]
    services.close()
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert {answer.headers["Retry-After"] for answer in answers[:2]} == {"1"}
    assert 0 <= int(answers[2].headers["Retry-After"]) <= 60


def test_a_database_that_does_not_answer_is_a_503(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        app = create_app(settings.model_copy(update={"database_url": f"postgresql://127.0.0.1:{port}/x"}))
        answer = app.test_client().get("/api/v1/jobs")
        assert (answer.status_code, read(answer)["type"]) == (503, "database-unavailable")
        assert answer.headers["Retry-After"]
        get_context(app).services.close()


def test_the_list_is_newest_first_in_pages(client: FlaskClient) -> None:
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


def test_the_list_is_filtered(client: FlaskClient, services: Services) -> None:
    ended = submit(client)
    end(services)
    labelled = submit(client, WINE | {"labels": {"team": "a"}})
    music = submit(client, {"kind": "musicgen", "device": "gpu"})

    def find(query: str) -> set[str]:
        return {job["id"] for job in read(client.get(f"/api/v1/jobs?{query}"))["jobs"]}

    assert find("state=succeeded") == {ended["id"]}
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
    ],
)
def test_a_wrong_query_names_its_parameter(client: FlaskClient, query: str, pointer: str) -> None:
    answer = client.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 422
    assert [problem["pointer"] for problem in read(answer)["errors"]] == [pointer]


def test_cancelling(client: FlaskClient, services: Services) -> None:
    url = f"/api/v1/jobs/{submit(client)['id']}"
    cancelled = client.post(f"{url}/cancel")
    assert (cancelled.status_code, read(cancelled)["state"]) == (202, "cancelled")
    assert client.post(f"{url}/cancel").status_code == 409
    running = submit(client)
    start_job(services)
    asked = client.post(f"/api/v1/jobs/{running['id']}/cancel")
    assert asked.status_code == 202
    assert read(asked) | {"state": "running", "cancel_requested": True} == read(asked)


def test_retrying_makes_a_new_job(client: FlaskClient, services: Services) -> None:
    first = submit(client, WINE | {"priority": 7, "labels": {"a": "b"}, "timeout_s": 100})
    url = f"/api/v1/jobs/{first['id']}/retry"
    assert client.post(url).status_code == 409
    end(services)
    answer = client.post(url)
    again = read(answer)
    assert answer.status_code == 202
    assert again["retry_of"] == first["id"] != again["id"]
    for name in ("params", "priority", "labels", "kind"):
        assert again[name] == first[name]


def test_deleting_removes_job_and_files(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    url = f"/api/v1/jobs/{job['id']}"
    assert client.delete(url).status_code == 409
    written = services.files.put(f"jobs/{job['id']}/1/a.txt", [b"a"])
    end(services, StoredFile("a.txt", written.key, "text/plain", 1, written.sha256))
    answer = client.delete(url)
    assert (answer.status_code, answer.data) == (204, b"")
    assert not path_on_disk(services.files, written.key).exists()
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404


def test_an_artifact_is_sent_whole_and_in_ranges(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    written = services.files.put(f"jobs/{job['id']}/1/scores.csv", [b"0123", b"456789"])
    end(services, StoredFile("scores.csv", written.key, "text/csv", written.bytes, written.sha256))
    (artifact,) = read(client.get(f"/api/v1/jobs/{job['id']}"))["artifacts"]
    fetch = partial(client.get, buffered=True)  # reads and closes the file, as a server does
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
def test_a_job_that_is_not_there(client: FlaskClient, call: str, job_id: str) -> None:
    answer = getattr(client, call)(f"/api/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.headers["X-Request-ID"]


def test_every_response_names_its_request(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    assert client.get("/healthz", headers={"X-Request-ID": "not mine\t!"}).headers["X-Request-ID"] != "not mine\t!"


def test_health_and_catalogues(client: FlaskClient) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json == {"status": "ready"}
    (wine,) = read(client.get("/api/v1/datasets"))["datasets"]
    assert (wine["name"], wine["rows"], len(wine["columns"])) == ("wine", 178, 13)
    submit(client)
    devices = {device["device"]: device for device in read(client.get("/api/v1/devices"))["devices"]}
    assert devices["cpu"] == {"device": "cpu", "workers_alive": 0, "engines": {}, "queued": 1, "running": 0}
    assert set(devices) == {"ascend", "gpu", "cpu"}
