"""The client receives the events and files of a job correctly even if the service or the network fails."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count, repeat
from pathlib import Path
from random import Random
from typing import Any

import pytest

from shared.client import Client, ClientError, Event, Progress, StateChange, connection, event_follower
from shared.retry_delay import RetryDelay
from tests.support.scripted_server import EVENT_STREAM, Answer, Asked, Script, ScriptedServer, answer_json
from tests.support.waiting import DEADLINE_S

QUICKLY = RetryDelay(0.001, 0.01)
JOB_ID = "01a2070d-0000-7000-8000-000000000000"
AUDIO = bytes(range(256)) * 40
FILE = {"name": "audio-0.wav", "media_type": "audio/wav", "bytes": len(AUDIO)}
FILE |= {"sha256": hashlib.sha256(AUDIO).hexdigest()}
ENDED = {"state": "succeeded", "attempt": 1, "worker": "w", "cancel_requested": False, "error": None}
HISTORY: list[tuple[str, dict[str, Any]]] = [
    ("state", ENDED | {"state": "queued", "attempt": 0, "worker": None}),
    ("state", ENDED | {"state": "running"}),
    *(("progress", {"stage": "decode", "done": done, "total": 20, "unit": "steps"}) for done in range(21)),
    ("state", ENDED),
    ("artifact", FILE),
]
NOTHING_DONE = {"done": 0, "total": 0, "unit": None, "stage": None}
Serve = Callable[[Script], ScriptedServer]
Follow = Callable[[ScriptedServer], Iterator[Event]]


def write_job(**changes: object) -> dict[str, Any]:
    job: dict[str, Any] = {
        "id": JOB_ID,
        "kind": "knn",
        "device": "cpu",
        "engine": None,
        "params": {},
        "labels": {},
        "priority": 5,
        "progress": {"done": 20, "total": 20, "unit": "steps", "stage": "decode"},
        "queue_position": None,
        "eta_s": None,
        "max_attempts": 3,
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": None,
        "finished_at": None,
        "result": {"best_k": 5},
        "retry_of": None,
        "artifacts": [FILE],
        "new_field": "of a later version",
    }
    return job | ENDED | changes


def write_events(start: int = 0, stop: int = len(HISTORY)) -> bytes:
    return "".join(
        f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
        for number, (kind, data) in enumerate(HISTORY[start:stop], start + 1)
    ).encode()


def stream(*pieces: bytes | Callable[[], object], **others: Any) -> Answer:
    return Answer(headers={"Content-Type": f"{EVENT_STREAM}; charset=utf-8"}, pieces=pieces, **others)


def resume(asked: Asked) -> int:
    return int(asked.headers.get("last-event-id", 0))


def dump(events: Iterator[Event]) -> list[tuple[str | None, dict[str, Any]]]:
    return [(event.id, event.data.model_dump(mode="json")) for event in events]


WHOLE = [(str(number), data) for number, (_, data) in enumerate(HISTORY, 1)]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ScriptedServer] = []

    def start(script: Script) -> ScriptedServer:
        servers.append(ScriptedServer(script).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def follow() -> Iterator[Follow]:
    clients: list[Client] = []

    def follow(server: ScriptedServer) -> Iterator[Event]:
        clients.append(Client(server.url, retry_delay=QUICKLY))
        return clients[-1].follow(JOB_ID)

    yield follow
    for client in clients:
        client.close()


def test_complete_stream_is_received_and_a_second_request_confirms_the_end(serve: Serve, follow: Follow) -> None:
    server = serve(lambda asked: Answer(204) if resume(asked) == len(HISTORY) else stream(write_events()))
    assert dump(follow(server)) == WHOLE
    first, last = server.list_asked("/events")
    assert first.headers["accept"] == EVENT_STREAM
    assert "last-event-id" not in first.headers
    assert last.headers["last-event-id"] == str(len(HISTORY))


@pytest.mark.parametrize("seed", range(5))
def test_stream_that_is_cut_anywhere_yields_each_event_once_in_order(serve: Serve, follow: Follow, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - it chooses where to cut the stream; nothing secret depends on it

    def script(asked: Asked) -> Answer:
        if resume(asked) == len(HISTORY):
            return Answer(204)
        text = write_events(resume(asked))
        # Each stream has at least one whole event: after a few streams without an event, the client would poll instead.
        least = text.index(b"\n\n") + 2
        cut = random.randint(least, len(text))
        middle = random.randint(0, cut)
        # With a stated length, the client notices the cut; without a length, the cut looks like the end of the stream.
        claimed = len(text) + 1 if random.random() < 0.5 else None
        return stream(text[:middle], text[middle:cut], claimed_bytes=claimed)

    server = serve(script)
    assert dump(follow(server)) == WHOLE
    assert len(server.asked) > 2


def test_following_ends_after_the_last_event_even_if_the_end_is_not_confirmed(serve: Serve, follow: Follow) -> None:
    server = serve(lambda asked: stream(write_events(resume(asked))))
    assert dump(follow(server)) == WHOLE
    assert len(server.asked) == 2


def test_event_is_yielded_before_the_next_event_arrives(serve: Serve, follow: Follow) -> None:
    seen = threading.Event()
    half = write_events(0, 1)

    def script(asked: Asked) -> Answer:
        if resume(asked):
            return Answer(204)
        slowly = (half[at : at + 1] for at in range(len(half)))
        return stream(*slowly, b": wait\n\n", lambda: seen.wait(DEADLINE_S), write_events(1))

    events = follow(serve(script))
    first = next(events)
    seen.set()
    assert dump(iter([first, *events])) == WHOLE


def test_client_requests_the_stream_again_after_a_malformed_event(serve: Serve, follow: Follow) -> None:
    turns = count()

    def script(asked: Asked) -> Answer:
        if resume(asked) == len(HISTORY):
            return Answer(204)
        if next(turns) % 2:
            return stream(b"event: state\ndata: {garbage\n\n", write_events())
        return stream(write_events(resume(asked), resume(asked) + 9), b"id: 99\nevent: progress\ndata: [1]\n\n")

    assert dump(follow(serve(script))) == WHOLE


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (Answer(204), 1),
        (Answer(404), 1),
        (Answer(405), 1),
        (Answer(406), 1),
        (Answer(500), 1),
        (Answer(503), 1),
        (answer_json({"no": "stream"}), 1),
        (stream(), event_follower.MAX_FAILED_STREAMS),
        (stream(b"event: state\ndata: \xff\n\n"), event_follower.MAX_FAILED_STREAMS),
    ],
    ids=["204", "404", "405", "406", "500", "503", "json", "empty", "garbage"],
)
def test_job_is_polled_if_the_stream_is_unusable(serve: Serve, follow: Follow, answer: Answer, tries: int) -> None:
    queued = write_job(state="queued", attempt=0, worker=None, artifacts=[], progress=NOTHING_DONE)
    running = write_job(state="running", artifacts=[])
    looks = iter([queued, None, running, running, write_job()])

    def script(asked: Asked) -> Answer:
        if asked.path.endswith("/events"):
            return answer
        look = next(looks)
        headers = {"ETag": f'"{len(server.asked)}"', "Preference-Applied": "wait=20"}
        return Answer(304, headers) if look is None else answer_json(look, **headers)

    server = serve(script)
    received = dump(follow(server))
    assert received == [(None, HISTORY[at][1]) for at in (0, 1, -3, -2, -1)]
    assert len(server.list_asked("/events")) == tries
    polls = server.list_asked(JOB_ID)
    assert "prefer" not in polls[0].headers
    assert all(poll.headers["prefer"] == "wait=20" for poll in polls[1:])
    assert all("if-none-match" in poll.headers for poll in polls[1:])


@pytest.mark.parametrize("streamed", [10, len(HISTORY) - 1, len(HISTORY)])
def test_polls_yield_only_new_events_after_the_stream_has_become_silent(
    serve: Serve, follow: Follow, monkeypatch: pytest.MonkeyPatch, streamed: int
) -> None:
    monkeypatch.setattr(event_follower, "MAX_SILENCE_S", 2.0)
    enough = threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.path.endswith("/events"):
            return stream(write_events(0, streamed), lambda: enough.wait(DEADLINE_S))
        return answer_json(write_job())

    server = serve(script)
    received = dump(follow(server))
    enough.set()
    assert received == WHOLE[:streamed] + [(None, data) for _, data in HISTORY[max(streamed, len(HISTORY) - 2) :]]


def test_request_is_repeated_while_the_service_is_busy_or_starting(serve: Serve, follow: Follow) -> None:
    refusals = iter([429, 502, 503, 504])

    def script(_: Asked) -> Answer:
        if (status := next(refusals, None)) is not None:
            return Answer(status)
        return answer_json(write_job())

    assert dump(follow(serve(script))) == [(None, data) for _, data in HISTORY[-2:]]


def test_following_fails_after_the_maximum_number_of_attempts(serve: Serve, follow: Follow) -> None:
    server = serve(lambda _: Answer(503, {"Content-Type": "text/html"}, (b"<h1>Starting</h1>",)))
    with pytest.raises(ClientError, match="Starting") as caught:
        list(follow(server))
    assert caught.value.status == 503
    assert len(server.list_asked(JOB_ID)) == connection.MAX_ATTEMPTS


def test_following_an_unknown_job_fails_after_one_poll(serve: Serve, follow: Follow) -> None:
    server = serve(lambda _: Answer(404))
    with pytest.raises(ClientError) as caught:
        list(follow(server))
    assert caught.value.status == 404
    assert len(server.asked) == 2


def test_redirect_to_another_server_is_not_followed(serve: Serve) -> None:
    other = serve(lambda _: answer_json(write_job()))
    server = serve(lambda _: Answer(302, {"Location": f"{other.url}/api/v1/jobs/{JOB_ID}"}))
    with Client(server.url, "mj_key") as client, pytest.raises(ClientError, match="gave no explanation") as caught:
        client.get(JOB_ID)
    assert caught.value.status == 302
    assert other.asked == []
    assert server.asked[0].headers["authorization"] == "Bearer mj_key"


def test_request_to_this_machine_does_not_use_a_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    server = serve(lambda _: answer_json(write_job()))
    with Client(server.url) as client:
        assert client.get(JOB_ID).id == JOB_ID


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"id": 5}', b"\xff"])
def test_response_that_is_not_a_job_is_reported(serve: Serve, body: bytes) -> None:
    server = serve(lambda _: Answer(pieces=(body,)))
    with Client(server.url) as client, pytest.raises(ClientError, match="did not respond as mindjobs does"):
        client.get(JOB_ID)


def test_field_of_a_later_version_is_kept(serve: Serve) -> None:
    server = serve(lambda _: answer_json(write_job()))
    with Client(server.url) as client:
        assert client.get(JOB_ID).model_dump()["new_field"] == "of a later version"


def send_file(asked: Asked, content: bytes, cut_at: int) -> Answer:
    start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    part = content[start : max(cut_at, start + 100)]
    return Answer(206 if start else 200, {"ETag": f'"{FILE["sha256"]}"'}, (part,), len(content) - start)


def test_interrupted_download_is_continued_by_range_requests(serve: Serve, tmp_path: Path) -> None:
    cuts = iter([100, 3_000, 9_000, len(AUDIO)])
    server = serve(
        lambda asked: send_file(asked, AUDIO, next(cuts)) if "artifacts" in asked.path else answer_json(write_job())
    )
    with Client(server.url, retry_delay=QUICKLY) as client:
        (path,) = client.download(JOB_ID, tmp_path / "new" / "folder")
        assert client.download(JOB_ID, path.parent) == (path,)
    assert path.read_bytes() == AUDIO
    assert list(path.parent.iterdir()) == [path]
    asked = server.list_asked("/artifacts/audio-0.wav")
    assert [each.headers.get("range") for each in asked] == [None, "bytes=100-", "bytes=3000-", "bytes=9000-"]
    assert asked[1].headers["if-range"] == f'"{FILE["sha256"]}"'


def test_interrupted_download_is_restarted_if_the_server_ignores_ranges(serve: Serve, tmp_path: Path) -> None:
    cuts = iter([100, len(AUDIO)])

    def script(asked: Asked) -> Answer:
        if "artifacts" not in asked.path:
            return answer_json(write_job())
        return Answer(pieces=(AUDIO[: next(cuts)],), claimed_bytes=len(AUDIO))

    with Client(serve(script).url, retry_delay=QUICKLY) as client:
        (path,) = client.download(JOB_ID, tmp_path)
    assert path.read_bytes() == AUDIO


@pytest.mark.parametrize(
    "content", [[AUDIO[:-1], b"x"], chain([AUDIO], repeat(b"x" * 2**16))], ids=["other", "endless"]
)
def test_downloaded_file_with_the_wrong_digest_is_deleted(
    serve: Serve, tmp_path: Path, content: Iterable[bytes]
) -> None:
    server = serve(lambda asked: Answer(pieces=content) if "artifacts" in asked.path else answer_json(write_job()))
    with Client(server.url, retry_delay=QUICKLY) as client, pytest.raises(ClientError, match="SHA-256"):
        client.download(JOB_ID, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_with_other_content_is_not_overwritten(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "audio-0.wav").write_bytes(b"of an earlier job")
    server = serve(lambda _: answer_json(write_job()))
    with Client(server.url) as client, pytest.raises(FileExistsError, match="choose another folder"):
        client.download(JOB_ID, tmp_path)
    assert (tmp_path / "audio-0.wav").read_bytes() == b"of an earlier job"


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "/etc/passwd", "a/b", "a\\b", "a\x00b", "a\nb", "C:\\x"])
@pytest.mark.parametrize("field", ["name", "filename"])
def test_artifact_whose_name_is_not_a_plain_file_name_is_refused(
    serve: Serve, tmp_path: Path, name: str, field: str
) -> None:
    inner = tmp_path / "inner"
    server = serve(
        lambda asked: (
            Answer(pieces=(AUDIO,))
            if "artifacts" in asked.path
            else answer_json(write_job(artifacts=[FILE | {field: name}]))
        )
    )
    with Client(server.url) as client, pytest.raises(ClientError, match="is a path"):
        client.download(JOB_ID, inner)
    assert list(tmp_path.rglob("*")) == []


def test_artifact_with_a_malformed_digest_is_refused(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _: answer_json(write_job(artifacts=[FILE | {"sha256": "../" * 20}])))
    with Client(server.url) as client, pytest.raises(ClientError, match="did not respond as mindjobs does"):
        client.download(JOB_ID, tmp_path / "inner")


def test_wait_calls_the_callback_with_each_event(serve: Serve) -> None:
    seen: list[Event] = []
    server = serve(
        lambda asked: (
            answer_json(write_job())
            if not asked.path.endswith("/events")
            else Answer(204)
            if resume(asked)
            else stream(write_events())
        )
    )
    with Client(server.url) as client:
        job = client.wait(JOB_ID, seen.append)
    assert (job.state, job.ended) == ("succeeded", True)
    assert sum(isinstance(event.data, StateChange) for event in seen) == 3
    assert sum(isinstance(event.data, Progress) for event in seen) == 21
