"""The event stream: each event once, in order, whatever becomes of the connection; on both databases."""

import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from shared import api_keys
from shared.database import transitions
from shared.database.tables import JobEvent
from shared.ids import make_id
from shared.jobs import Lease, Origin, Outcome, Progress, RetryDelay, State, StoredFile
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.integration.conftest import ServeWeb
from tests.support.instances import ask
from tests.support.job_outcomes import start_job
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

WINE = {"kind": "knn", "params": {"dataset": {"name": "wine"}}, "device": "cpu"}
FILES = tuple(StoredFile(f"{name}.csv", f"jobs/{name}", "text/csv", 3, "0" * 64) for name in ("a", "b"))
DONE = Outcome(State.SUCCEEDED, {"best_k": 5}, files=FILES)
_BLOCK = re.compile(r"id: (\d+)\nevent: (\w+)\ndata: (.*)")


@dataclass(frozen=True)
class Told:
    """An event, as a client reads it."""

    id: int
    kind: str
    data: dict[str, Any]


def submit(services: Services, owner: str = "") -> str:
    return submit_job(services, WINE, origin=Origin(owner))[0].id


def beat(services: Services, lease: Lease, done: int) -> None:
    assert transitions.heartbeat(services.database, lease, Progress("searching", done, 9, "rows"), 60) is not None


def run_whole(services: Services) -> str:
    """Let a job be lost once, and succeed."""
    job_id = submit(services)
    lost = start_job(services)
    beat(services, lost, 1)
    assert transitions.recover_lost(services.database, lost, RetryDelay(0, 0))
    lease = start_job(services)
    beat(services, lease, 9)
    assert transitions.finish(services.database, lease, DONE)
    return job_id


def parse(body: str) -> list[Told]:
    """Read the whole events; what is cut off at the end is none."""
    found = [_BLOCK.fullmatch(block) for block in body.split("\n\n")[:-1]]
    return [Told(int(match[1]), match[2], json.loads(match[3])) for match in found if match]


def find_events(services: Services, job_id: str) -> list[Told]:
    """Read the events as they stand in the database, without their moments."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
    with services.database.reading() as session:
        return [Told(event.id, event.kind, event.data) for event in session.scalars(statement)]


def drop_moments(told: list[Told]) -> list[Told]:
    return [Told(one.id, one.kind, {name: one.data[name] for name in one.data if name != "at"}) for one in told]


def read_until(stream: Iterator[bytes], count: int) -> list[Told]:
    """Read from a stream until so many events have come."""
    body = ""
    while len(parse(body)) < count:
        body += next(stream).decode()
    return parse(body)


def open_stream(client: FlaskClient, job_id: str, **headers: str) -> TestResponse:
    return client.get(f"/api/v1/jobs/{job_id}/events", headers=headers)


def test_an_ended_job_tells_its_whole_life(client: FlaskClient, services: Services) -> None:
    answer = open_stream(client, run_whole(services))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert answer.text.startswith("retry: 1000\n\nid: ")
    told = parse(answer.text)
    assert [(one.kind, one.data.get("state")) for one in told] == [
        ("state", "queued"),
        ("state", "running"),
        ("progress", None),
        ("state", "queued"),
        ("state", "running"),
        ("progress", None),
        ("artifact", None),
        ("artifact", None),
        ("state", "succeeded"),
    ]
    moments = [one.data.pop("at") for one in told]
    assert moments == sorted(moments)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment) for moment in moments)
    assert told[2].data == {"stage": "searching", "done": 1, "total": 9, "unit": "rows"}
    assert told[4].data == {
        "state": "running",
        "attempt": 2,
        "worker": "box:1",
        "cancel_requested": False,
        "error": None,
    }
    assert told[-2].data == {"name": "b.csv", "media_type": "text/csv", "bytes": 3, "sha256": "0" * 64}


def test_each_event_is_a_place_to_resume_from(client: FlaskClient, services: Services) -> None:
    job_id = run_whole(services)
    told = parse(open_stream(client, job_id).text)
    for number, one in enumerate(told[:-1], start=1):
        assert parse(open_stream(client, job_id, Last_Event_ID=str(one.id)).text) == told[number:]
    end = open_stream(client, job_id, Last_Event_ID=str(told[-1].id))
    assert (end.status_code, end.data) == (204, b"")


def test_a_long_history_comes_whole(client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = run_whole(services)
    monkeypatch.setattr("shared.database.queries.MAX_EVENTS_PER_READ", 3)
    assert drop_moments(parse(open_stream(client, job_id).text)) == find_events(services, job_id)


def test_what_happens_is_told_until_the_end(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    stream = open_stream(client, job_id).iter_encoded()
    told = read_until(stream, 1)
    lease = start_job(services)
    told += read_until(stream, 1)
    beat(services, lease, 1)
    beat(services, lease, 2)
    told += read_until(stream, 2)
    transitions.cancel(services.database, job_id)
    told += read_until(stream, 1)
    assert told[-1].data["cancel_requested"]
    transitions.finish(services.database, lease, DONE)
    told += parse(b"".join(stream).decode())
    assert [one.data["name"] for one in told[-3:-1]] == ["a.csv", "b.csv"]
    assert drop_moments(told) == find_events(services, job_id)


def test_a_deleted_job_ends_its_stream(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    stream = open_stream(client, job_id).iter_encoded()
    read_until(stream, 1)
    transitions.cancel(services.database, job_id)
    transitions.delete_job(services.database, job_id)
    assert list(stream) == []
    assert open_stream(client, job_id).status_code == 404


def test_a_stream_ends_with_the_database_and_is_resumed_with_it(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    stream = open_stream(client, job_id).iter_encoded()
    (queued,) = read_until(stream, 1)
    with services.database.writing() as session:
        session.execute(text("ALTER TABLE job_events RENAME TO elsewhere"))
    assert list(stream) == []
    with services.database.writing() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO job_events"))
    transitions.cancel(services.database, job_id)
    (cancelled,) = parse(open_stream(client, job_id, Last_Event_ID=str(queued.id)).text)
    assert cancelled.data["state"] == "cancelled"


def test_silence_is_broken_by_heartbeats(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = open_stream(client, submit(services)).iter_encoded()
    read_until(stream, 1)
    monkeypatch.setattr("web.api.events.HEARTBEAT_S", 0.1)
    assert [next(stream), next(stream)] == [b":\n\n", b":\n\n"]


def test_streams_never_take_the_last_thread(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"web_threads": 2}))  # one seat
    client = app.test_client()
    job_id = submit(get_context(app).services)
    for method in ("HEAD", "HEAD"):
        assert client.open(f"/api/v1/jobs/{job_id}/events", method=method).status_code == 200
    seated = open_stream(client, job_id)
    refused = open_stream(client, job_id)
    assert (refused.status_code, refused.content_type) == (503, "application/problem+json")
    assert refused.json is not None
    assert refused.json["type"] == "busy"
    assert int(refused.headers["Retry-After"]) > 0
    assert client.get(f"/api/v1/jobs/{job_id}").status_code == 200
    seated.close()
    assert open_stream(client, job_id).status_code == 200
    get_context(app).services.close()


def test_what_cannot_be_streamed_is_said(client: FlaskClient, services: Services) -> None:
    missing = open_stream(client, make_id())
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    job_id = submit(services)
    for bad in ("", "x", "-1", "1.5", "9" * 19):
        answer = open_stream(client, job_id, Last_Event_ID=bad)
        assert answer.status_code == 400
        assert answer.json is not None
        assert "Last-Event-ID" in answer.json["detail"]


def test_other_keys_jobs_are_not_there(app: Flask, services: Services) -> None:
    own, other = (api_keys.create_key(services.database, name) for name in ("own", "other"))
    owners = {key.name: key.id for key in api_keys.list_keys(services.database)}
    client, job_id = app.test_client(), submit(services, owners["own"])
    transitions.cancel(services.database, job_id)
    answers = [open_stream(client, job_id, Authorization=f"Bearer {key}").status_code for key in (own, other, "none")]
    assert answers == [200, 404, 401]


def test_a_stream_ends_with_its_key(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 0.0)
    key = api_keys.create_key(services.database, "own")
    (owner,) = (key.id for key in api_keys.list_keys(services.database))
    job_id = submit(services, owner)
    stream = open_stream(app.test_client(), job_id, Authorization=f"Bearer {key}").iter_encoded()
    read_until(stream, 1)
    api_keys.revoke_key(services.database, "own")
    assert list(stream) == []


def read_some(port: int, job_id: str, last_id: int | None, max_bytes: int) -> tuple[str, str]:
    """Read the beginning of a stream and cut it there.

    Returns
    -------
    head, body
        As far as they came.
    """
    lines = [f"GET /api/v1/jobs/{job_id}/events HTTP/1.0", "Host: 127.0.0.1"]  # 1.0 has no chunks
    lines += [f"Last-Event-ID: {last_id}"] if last_id is not None else []
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head, body = b"", b""
        while len(body) < max_bytes and (some := connection.recv(max_bytes - len(body))):
            heard += some
            head, _, body = heard.partition(b"\r\n\r\n")
    return head.decode(), body.decode()


def live(services: Services, steps: threading.Semaphore) -> None:
    """Let the job be claimed, lost, claimed again and finished, a step whenever there is leave for one."""
    for attempt in (1, 2):
        lease = start_job(services)
        for done in range(60):
            steps.acquire()
            beat(services, lease, done)
        if attempt == 1:
            transitions.recover_lost(services.database, lease, RetryDelay(0, 0))
    transitions.finish(services.database, lease, DONE)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_cut_anywhere_and_resumed_tells_each_event_once(
    services: Services, serve_web: ServeWeb, seed: int
) -> None:
    drawn = random.Random(seed)  # noqa: S311 - cuts, not secrets
    port, job_id = serve_web()[1].port, submit(services)
    told: list[Told] = []
    cut_inside = 0
    steps = threading.Semaphore(4)
    with ThreadPoolExecutor(1) as pool:
        lived = pool.submit(live, services, steps)
        while True:
            # Each time more events come than are read, so that there always are some to read.
            last_id = told[-1].id if told else None
            head, body = read_some(port, job_id, last_id, drawn.randrange(200, 800))
            told += parse(body)
            cut_inside += not body.endswith("\n\n")
            if head.startswith("HTTP/1.0 204"):
                break
            steps.release(4)
        lived.result()
    assert cut_inside > 10
    assert drop_moments(told) == find_events(services, job_id)
    assert [one.kind for one in told[-3:]] == ["artifact", "artifact", "state"]


def test_a_client_that_has_gone_gives_its_seat_back(services: Services, serve_web: ServeWeb) -> None:
    port = serve_web(web_processes=1, web_threads=2)[1].port  # one seat
    job_id = submit(services)
    lease = start_job(services)
    path = f"/api/v1/jobs/{job_id}/events"
    assert ask(port, path) == 200

    def is_free() -> bool:
        beat(services, lease, 1)
        return ask(port, path) == 200

    wait_until(is_free, "the seat")
