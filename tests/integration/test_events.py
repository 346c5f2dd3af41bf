"""The event stream sends each event once and in order, however often the connection is lost, on both databases."""

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
from shared.jobs import Lease, Origin, Outcome, Progress, State, StoredFile
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.integration.conftest import ServeWeb
from tests.support.instances import ask
from tests.support.job_outcomes import start_job
from tests.support.waiting import DEADLINE_S, wait_until
from web import create_app
from web.context import get_context

WINE = {"kind": "knn", "params": {"dataset": {"name": "wine"}}, "device": "cpu"}
FILES = tuple(StoredFile(f"{name}.csv", f"jobs/{name}", "text/csv", 3, "0" * 64) for name in ("a", "b"))
DONE = Outcome(State.SUCCEEDED, {"best_k": 5}, files=FILES)
_BLOCK = re.compile(r"id: (\d+)\nevent: (\w+)\ndata: (.*)")


@dataclass(frozen=True)
class ReceivedEvent:
    """An event as a client reads it."""

    id: int
    kind: str
    data: dict[str, Any]


def submit(services: Services, owner: str = "") -> str:
    return submit_job(services, WINE, origin=Origin(owner))[0].id


def beat(services: Services, lease: Lease, done: int) -> None:
    assert transitions.heartbeat(services.database, lease, Progress("searching", done, 9, "rows"), 60) is not None


def run_to_success(services: Services) -> str:
    """Submit a job and run it: its first attempt is lost, and its second attempt succeeds."""
    job_id = submit(services)
    lost = start_job(services)
    beat(services, lost, 1)
    assert transitions.recover_lost(services.database, lost, RetryDelay(0, 0))
    lease = start_job(services)
    beat(services, lease, 9)
    assert transitions.finish(services.database, lease, DONE)
    return job_id


def parse(body: str) -> list[ReceivedEvent]:
    """Return the complete events of a stream; an event that is cut off at the end is left out."""
    found = [_BLOCK.fullmatch(block) for block in body.split("\n\n")[:-1]]
    return [ReceivedEvent(int(match[1]), match[2], json.loads(match[3])) for match in found if match]


def find_events(services: Services, job_id: str) -> list[ReceivedEvent]:
    """Return the events of a job as they are in the database, without timestamps."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
    with services.database.reading() as session:
        return [ReceivedEvent(event.id, event.kind, event.data) for event in session.scalars(statement)]


def drop_timestamps(events: list[ReceivedEvent]) -> list[ReceivedEvent]:
    return [
        ReceivedEvent(event.id, event.kind, {name: event.data[name] for name in event.data if name != "at"})
        for event in events
    ]


def read_until(stream: Iterator[bytes], count: int) -> list[ReceivedEvent]:
    """Read from a stream until ``count`` events have been received, and return these events."""
    body = ""
    while len(parse(body)) < count:
        body += next(stream).decode()
    return parse(body)


def open_stream(client: FlaskClient, job_id: str, **headers: str) -> TestResponse:
    return client.get(f"/api/v1/jobs/{job_id}/events", headers=headers)


def test_ended_job_streams_its_whole_history(client: FlaskClient, services: Services) -> None:
    response = open_stream(client, run_to_success(services))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert response.text.startswith("retry: 1000\n\nid: ")
    events = parse(response.text)
    assert [(event.kind, event.data.get("state")) for event in events] == [
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
    timestamps = [event.data.pop("at") for event in events]
    assert timestamps == sorted(timestamps)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp) for timestamp in timestamps)
    assert events[2].data == {"stage": "searching", "done": 1, "total": 9, "unit": "rows"}
    assert events[4].data == {
        "state": "running",
        "attempt": 2,
        "worker": "box:1",
        "cancel_requested": False,
        "error": None,
    }
    assert events[-2].data == {"name": "b.csv", "media_type": "text/csv", "bytes": 3, "sha256": "0" * 64}


def test_stream_resumes_after_any_event(client: FlaskClient, services: Services) -> None:
    job_id = run_to_success(services)
    events = parse(open_stream(client, job_id).text)
    for number, event in enumerate(events[:-1], start=1):
        assert parse(open_stream(client, job_id, Last_Event_ID=str(event.id)).text) == events[number:]
    end = open_stream(client, job_id, Last_Event_ID=str(events[-1].id))
    assert (end.status_code, end.data) == (204, b"")


def test_history_that_is_too_long_for_one_database_read_is_sent_completely(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = run_to_success(services)
    monkeypatch.setattr("shared.database.queries.MAX_EVENTS_PER_READ", 3)
    assert drop_timestamps(parse(open_stream(client, job_id).text)) == find_events(services, job_id)


def test_events_are_sent_as_they_happen_until_the_end(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    stream = open_stream(client, job_id).iter_encoded()
    events = read_until(stream, 1)
    lease = start_job(services)
    events += read_until(stream, 1)
    beat(services, lease, 1)
    beat(services, lease, 2)
    events += read_until(stream, 2)
    transitions.cancel(services.database, job_id)
    events += read_until(stream, 1)
    assert events[-1].data["cancel_requested"]
    transitions.finish(services.database, lease, DONE)
    events += parse(b"".join(stream).decode())
    assert [event.data["name"] for event in events[-3:-1]] == ["a.csv", "b.csv"]
    assert drop_timestamps(events) == find_events(services, job_id)


def test_deleted_job_ends_its_stream(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    stream = open_stream(client, job_id).iter_encoded()
    read_until(stream, 1)
    transitions.cancel(services.database, job_id)
    transitions.delete_job(services.database, job_id)
    assert list(stream) == []
    assert open_stream(client, job_id).status_code == 404


def test_stream_ends_when_the_database_fails_and_can_be_resumed_later(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    stream = open_stream(client, job_id).iter_encoded()
    (queued,) = read_until(stream, 1)
    with services.database.writing() as session:
        session.execute(text("ALTER TABLE job_events RENAME TO hidden"))
    assert list(stream) == []
    with services.database.writing() as session:
        session.execute(text("ALTER TABLE hidden RENAME TO job_events"))
    transitions.cancel(services.database, job_id)
    (cancelled,) = parse(open_stream(client, job_id, Last_Event_ID=str(queued.id)).text)
    assert cancelled.data["state"] == "cancelled"


def test_stream_without_events_sends_heartbeats(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = open_stream(client, submit(services)).iter_encoded()
    read_until(stream, 1)
    monkeypatch.setattr("web.api.events.HEARTBEAT_S", 0.1)
    parts = filter(None, stream)
    assert [next(parts), next(parts)] == [b":\n\n", b":\n\n"]


def test_streams_leave_a_thread_free(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"web_threads": 2}))  # one long-poll slot
    client = app.test_client()
    job_id = submit(get_context(app).services)
    for method in ("HEAD", "HEAD"):
        assert client.open(f"/api/v1/jobs/{job_id}/events", method=method).status_code == 200
    first = open_stream(client, job_id)
    refused = open_stream(client, job_id)
    assert (refused.status_code, refused.content_type) == (503, "application/problem+json")
    assert refused.json is not None
    assert refused.json["type"] == "busy"
    assert int(refused.headers["Retry-After"]) > 0
    assert client.get(f"/api/v1/jobs/{job_id}").status_code == 200
    first.close()
    assert open_stream(client, job_id).status_code == 200
    get_context(app).services.close()


def test_stream_that_cannot_start_returns_a_problem(client: FlaskClient, services: Services) -> None:
    missing = open_stream(client, make_id())
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    job_id = submit(services)
    for bad in ("", "x", "-1", "1.5", "9" * 19):
        response = open_stream(client, job_id, Last_Event_ID=bad)
        assert response.status_code == 400
        assert response.json is not None
        assert "Last-Event-ID" in response.json["detail"]


def test_events_of_other_keys_are_not_found(app: Flask, services: Services) -> None:
    own, other = (api_keys.create_key(services.database, name) for name in ("own", "other"))
    owners = {key.name: key.id for key in api_keys.list_keys(services.database)}
    client, job_id = app.test_client(), submit(services, owners["own"])
    transitions.cancel(services.database, job_id)
    responses = [open_stream(client, job_id, Authorization=f"Bearer {key}").status_code for key in (own, other, "none")]
    assert responses == [200, 404, 401]


def test_stream_ends_when_its_key_is_revoked(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.key_cache.MAX_AGE_S", 0.0)
    key = api_keys.create_key(services.database, "own")
    (owner,) = (key.id for key in api_keys.list_keys(services.database))
    job_id = submit(services, owner)
    stream = open_stream(app.test_client(), job_id, Authorization=f"Bearer {key}").iter_encoded()
    read_until(stream, 1)
    api_keys.revoke_key(services.database, "own")
    assert list(stream) == []


def read_some(port: int, job_id: str, last_id: int | None, max_bytes: int) -> tuple[str, str]:
    """Read the beginning of a stream, then close the connection.

    Returns
    -------
    head, body
        The part of the response that was received.
    """
    lines = [f"GET /api/v1/jobs/{job_id}/events HTTP/1.0", "Host: 127.0.0.1"]  # HTTP/1.0 has no chunked encoding
    lines += [f"Last-Event-ID: {last_id}"] if last_id is not None else []
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head, body = b"", b""
        while len(body) < max_bytes and (some := connection.recv(max_bytes - len(body))):
            received += some
            head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body.decode()


def run_in_steps(services: Services, steps: threading.Semaphore) -> None:
    """Run a job whose first attempt is lost and whose second attempt succeeds; each heartbeat waits for ``steps``."""
    for attempt in (1, 2):
        lease = start_job(services)
        for done in range(60):
            steps.acquire()
            beat(services, lease, done)
        if attempt == 1:
            transitions.recover_lost(services.database, lease, RetryDelay(0, 0))
    transitions.finish(services.database, lease, DONE)


@pytest.mark.parametrize("seed", [1, 2])
def test_stream_that_is_cut_anywhere_and_resumed_sends_each_event_once(
    services: Services, serve_web: ServeWeb, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - it chooses where to cut the stream; nothing secret depends on it
    port, job_id = serve_web()[1].port, submit(services)
    events: list[ReceivedEvent] = []
    cut_inside = 0
    steps = threading.Semaphore(4)
    with ThreadPoolExecutor(1) as pool:
        finished = pool.submit(run_in_steps, services, steps)
        while True:
            # Each round writes more events than the client reads, so that there is always something left to read.
            last_id = events[-1].id if events else None
            head, body = read_some(port, job_id, last_id, rng.randrange(200, 800))
            events += parse(body)
            cut_inside += not body.endswith("\n\n")
            if head.startswith("HTTP/1.0 204"):
                break
            steps.release(4)
        finished.result()
    assert cut_inside > 10
    assert drop_timestamps(events) == find_events(services, job_id)
    assert [event.kind for event in events[-3:]] == ["artifact", "artifact", "state"]


def test_disconnected_client_releases_its_long_poll_slot(services: Services, serve_web: ServeWeb) -> None:
    port = serve_web(web_processes=1, web_threads=2)[1].port  # one long-poll slot
    job_id = submit(services)
    lease = start_job(services)
    path = f"/api/v1/jobs/{job_id}/events"
    assert ask(port, path) == 200

    def is_free() -> bool:
        beat(services, lease, 1)
        return ask(port, path) == 200

    wait_until(is_free, "the slot")
