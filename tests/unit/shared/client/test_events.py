"""The client reads events from an event stream."""

import json
from collections.abc import Iterable

import pytest

from shared.client import Artifact, Event, Progress, StateChange
from shared.client.events import MAX_LINE_LENGTH, MalformedStreamError, read_events

PROGRESS = {"stage": "decode ♫", "done": 1, "total": 9, "unit": "steps"}
STATE = {"state": "running", "attempt": 1, "worker": "w", "cancel_requested": False, "error": None}
ARTIFACT = {"name": "a.wav", "media_type": "audio/wav", "bytes": 3, "sha256": "0" * 64}
EVENTS = [
    Event(StateChange.model_validate(STATE), "1"),
    Event(Progress.model_validate(PROGRESS), "2"),
    Event(Artifact.model_validate(ARTIFACT), "3"),
]


def write(*, end: str) -> bytes:
    lines = ["\ufeff: welcome", "event: state", f"data: {json.dumps(STATE)}", "id: 1", "", ": still here", ""]
    start, rest = json.dumps(PROGRESS, ensure_ascii=False).split(" ", 1)
    lines += ["event:progress", f"data:{start}", f"data:{rest}", "id:2", "retry: 5", ""]
    lines += ["event: news", "data: whatever", "", "event: artifact", "id: 3", f"data: {json.dumps(ARTIFACT)}", "", ""]
    return end.join(lines).encode()


def read(chunks: Iterable[bytes]) -> list[Event]:
    return list(read_events(chunks))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_do_not_depend_on_line_ends_and_chunk_boundaries(end: str) -> None:
    text = write(end=end)
    # A CR at the end could be the first half of a CR LF, so the reader would wait for the next byte.
    text += b"\n" if end == "\r" else b""
    assert read([text]) == EVENTS
    assert read(text[at : at + 1] for at in range(len(text))) == EVENTS
    for at in range(len(text)):
        assert read([text[:at], text[at:]]) == EVENTS


def test_event_without_a_blank_line_at_its_end_is_ignored() -> None:
    assert read([b"event: progress\nid: 5\ndata: " + json.dumps(PROGRESS).encode() + b"\n"]) == []


@pytest.mark.parametrize(
    "text",
    [
        b"event: progress\ndata: {\n\n",
        b"event: progress\ndata: []\n\n",
        b'event: progress\ndata: {"stage": "s", "done": "many", "total": 1, "unit": "u"}\n\n',
        b'event: state\ndata: {"state": "confused"}\n\n',
        b"event: state\ndata: \xff\xfe\n\n",
        b"event: state\ndata: " + b"[" * 100_000 + b"\n\n",
        b"x" * (MAX_LINE_LENGTH + 1),
    ],
)
def test_malformed_stream_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        read([text])
