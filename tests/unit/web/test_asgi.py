"""Requests that wait for inspections hold no thread of the web."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from web.asgi import Message, ThreadedApplication
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
