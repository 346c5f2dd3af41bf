"""Requests that wait for inspections hold no thread of the web, and few submissions are computed at the same time."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from web.asgi import SMALL_BODY_BYTES, TURNS, Message, ThreadedApplication
from web.inspections import WAITED_S, InspectionPendingError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REQUESTS: Final = 20
UPLOADS: Final = ("an-upload",)


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer with the body of the request; at ``/wait``, wait for an inspection first."""
    content = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/wait" and not environ[WAITED_S]:
        raise InspectionPendingError(UPLOADS, 5.0)
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content]


async def request(served: ThreadedApplication, path: str, body: bytes) -> bytes:
    """Send a request to the application, and return the body of its response."""
    received = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[bytes] = []

    async def receive() -> Message:
        return next(received)

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "raw_path": path.encode(),
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("localhost", 1),
        "headers": [(b"content-length", str(len(body)).encode())],
    }
    await served(scope, receive, send)
    return b"".join(sent)


def test_requests_that_wait_hold_no_thread_and_are_answered_with_their_bodies_afterwards() -> None:
    async def run() -> None:
        waits: list[tuple[frozenset[str], float]] = []
        all_wait, inspected = asyncio.Event(), asyncio.Event()

        async def wait(upload_ids: frozenset[str], wait_s: float) -> None:
            waits.append((upload_ids, wait_s))
            if len(waits) == REQUESTS:
                all_wait.set()
            await inspected.wait()

        served = ThreadedApplication(application, ThreadPoolExecutor(1), wait)
        bodies = [str(number).encode() for number in range(REQUESTS)]
        waiting = [asyncio.ensure_future(request(served, "/wait", body)) for body in bodies]
        await all_wait.wait()
        assert await request(served, "/other", b"other") == b"other"
        assert not any(task.done() for task in waiting)
        inspected.set()
        assert await asyncio.gather(*waiting) == bodies
        assert waits == [(frozenset(UPLOADS), 5.0)] * REQUESTS

    asyncio.run(run())


class BlockedApplication:
    """An application that answers when the gate is open, and counts the requests that are computed at the same time."""

    def __init__(self) -> None:
        self.gate, self.begun = threading.Event(), threading.Semaphore(0)
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer when the gate is open."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.release()
        self.gate.wait()
        with self._lock:
            self.at_once -= 1
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    def wait_for_beginnings(self, number: int) -> None:
        """Wait until so many requests have begun."""
        for _ in range(number):
            self.begun.acquire()


def send_requests(application: BlockedApplication, body: bytes, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Send requests with the same body at once; open the gate after ``meanwhile``, and check the answers."""

    async def wait(_: frozenset[str], __: float) -> None:
        raise AssertionError("no request waits for an inspection")

    async def run() -> None:
        with ThreadPoolExecutor(REQUESTS) as threads:
            served = ThreadedApplication(application, threads, wait)
            waiting = [asyncio.ensure_future(request(served, "/", body)) for _ in range(REQUESTS)]
            try:
                await meanwhile()
            finally:
                application.gate.set()
            assert await asyncio.gather(*waiting) == [b"done"] * REQUESTS

    asyncio.run(run())


def test_few_requests_with_a_small_body_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.asgi.TURN_S", 600.0)
    application = BlockedApplication()
    send_requests(application, b"{}", lambda: asyncio.to_thread(application.wait_for_beginnings, TURNS))
    assert application.most_at_once == TURNS


@pytest.mark.parametrize(("turn_s", "body"), [(0.01, b"{}"), (600.0, bytes(SMALL_BODY_BYTES + 1))])
def test_requests_that_only_wait_and_uploads_keep_no_turn(
    monkeypatch: pytest.MonkeyPatch, turn_s: float, body: bytes
) -> None:
    monkeypatch.setattr("web.asgi.TURN_S", turn_s)
    application = BlockedApplication()
    send_requests(application, body, lambda: asyncio.to_thread(application.wait_for_beginnings, REQUESTS))
    assert application.most_at_once == REQUESTS
