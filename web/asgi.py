"""Runs Flask's application, whose interface is WSGI, behind an ASGI server, so that no thread waits for a slow client.

The server's event loop receives the whole request, and it sends the response. Between the two, a thread runs the
application while there is something to compute. ``web.server`` is the configuration of the server.
"""

import asyncio
import io
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote_to_bytes

from werkzeug.wsgi import FileWrapper

from shared.errors import BodyIncompleteError, BodySlowError, BusyError
from shared.settings import load_settings
from shared.texts import text
from web import create_app
from web.context import get_context
from web.inspections import WAITED_S, InspectionPendingError, InspectionWaits
from web.pending_body import JUDGED, MAX_BYTES, BodyPendingError, UnreadableBody

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SMALL_BODY_BYTES: Final = 2**16
"""A body of at most this size is received before the application runs. Before a larger body is received, the
application judges the head of the request: it refuses a request without a key, for example."""
BODY_TIMEOUT_S: Final = 15.0
MIN_BODY_BYTES_PER_S: Final = 2**14
"""A body may take `BODY_TIMEOUT_S`, and one second more for each time that this number of bytes has arrived."""
MEMORY_BODY_BYTES: Final = 2**18
"""A larger body is kept in a temporary file."""
MAX_PENDING_BYTES: Final = 2**30
"""How many bytes of all bodies together may be kept while the bodies arrive."""
FILE_BLOCK_BYTES: Final = 2**18
LINGER_S: Final = 2.0
"""How long the rest of a refused body is still read. If the connection were closed at once, the client would often lose
the response: a system that receives data for a closed connection answers with a reset."""
TURNS: Final = 4
"""How many requests with a small body, which are mostly submissions, a process computes at the same time. Python runs
one thread at a time: beside 320 submissions on PostgreSQL, the p99 of ``/healthz`` is 20 to 60 ms, with 8 turns 80 to
155 ms, and without turns 220 to 310 ms."""
TURN_S: Final = 0.25
"""A thread that has not finished within this time is taken to wait, for example for the database. Since it computes
nothing then, the next request gets its turn."""
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_ABSOLUTE: Final = re.compile(rb"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/]*")
"""The beginning of an address in the absolute form, which clients of proxies send (RFC 9112, section 3.2.2)."""


def make_application() -> "ThreadedApplication":
    """Make the web application for an ASGI server, with the settings of the environment."""
    settings = load_settings()
    app, threads = create_app(settings), ThreadPoolExecutor(settings.web_threads, "request")
    return ThreadedApplication(app.wsgi_app, threads, InspectionWaits(get_context(app).services, threads).wait)


@dataclass(frozen=True)
class _Response:
    """What the application has computed of a response: the head, and the first part of the body.

    Parameters
    ----------
    read_more
        Computes the next part of the body, in a thread; ``None`` if the first part is the whole body. It returns
        ``None`` after the last part.
    close
        Releases what the application holds for the response.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    first: bytes
    read_more: Callable[[], bytes | None] | None
    close: Callable[[], None]


@dataclass
class _Body:
    """The part of a request's body that has arrived, in memory or in a temporary file."""

    file: IO[bytes]
    bytes: int = 0
    complete: bool = False


class ThreadedApplication:
    """An ASGI application that runs a WSGI application in threads.

    Parameters
    ----------
    wsgi
        The application. Before it reads the body of a request, and before it waits for inspections, it must not change
        anything, because it is called again after a body that was pending has arrived, and after the inspections.
    threads
        The threads that run the application.
    wait
        Waits until uploads are inspected, or the given time in seconds is up.
    """

    def __init__(
        self,
        wsgi: "WSGIApplication",
        threads: ThreadPoolExecutor,
        wait: Callable[[frozenset[str], float], Awaitable[None]],
    ) -> None:
        self._wsgi = wsgi
        self._threads = threads
        self._wait = wait
        self._turns = asyncio.Semaphore(TURNS)
        self._pending_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # the service has no websockets
            return
        environ = _make_environ(scope)
        has_body = "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ
        length = int(environ["CONTENT_LENGTH"]) if "CONTENT_LENGTH" in environ else None
        is_small = length is not None and length <= SMALL_BODY_BYTES
        if not has_body:
            response = await self._run(environ, io.BytesIO())
        elif is_small:
            response = None
        else:
            response = await self._run(environ, UnreadableBody(BodyPendingError()))
        if response is not None:
            await self._send(response, receive, send, received=not has_body)
            return
        with tempfile.SpooledTemporaryFile(MEMORY_BODY_BYTES) as file:
            body = _Body(cast("IO[bytes]", file))
            stream = await self._receive(body, environ[MAX_BYTES] if length is None else length, receive)
            response = await self._run(environ, stream, takes_turn=is_small)
            if response is None:
                raise AssertionError("the body that the application reads is not pending")
            await self._send(response, receive, send, received=body.complete)

    async def _receive(self, body: _Body, max_bytes: int, receive: Receive) -> "IO[bytes] | UnreadableBody":
        """Receive a body until it ends or has more bytes than ``max_bytes``, and return what the application reads."""
        try:
            await self._receive_parts(body, max_bytes, receive)
            body.file.seek(0)
        except TimeoutError:
            return UnreadableBody(BodySlowError(text("body-slow", received_bytes=body.bytes)))
        except (BodyIncompleteError, BusyError, OSError) as error:  # for example because the disk is full
            return UnreadableBody(error)
        finally:
            self._pending_bytes -= body.bytes
        return body.file

    async def _receive_parts(self, body: _Body, max_bytes: int, receive: Receive) -> None:
        started_s = asyncio.get_running_loop().time()
        async with asyncio.timeout(BODY_TIMEOUT_S) as timeout:
            while not body.complete and body.bytes <= max_bytes:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyIncompleteError(text("body-incomplete", received_bytes=body.bytes))
                part = message.get("body", b"")
                body.bytes += len(part)
                self._pending_bytes += len(part)
                if self._pending_bytes > MAX_PENDING_BYTES:
                    raise BusyError(text("bodies-full"))
                body.file.write(part)
                body.complete = not message.get("more_body", False)
                timeout.reschedule(started_s + BODY_TIMEOUT_S + body.bytes / MIN_BODY_BYTES_PER_S)

    async def _run(
        self, environ: "WSGIEnvironment", body: "IO[bytes] | io.IOBase", *, takes_turn: bool = False
    ) -> _Response | None:
        """Run the application in a thread; return ``None`` if it needs the body, which is pending.

        If it must wait for inspections, run it again when these have ended, or when the time is up.

        Parameters
        ----------
        takes_turn
            Whether the request waits until few others are computed.
        """
        waited_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            call = {**environ, "wsgi.input": body, WAITED_S: waited_s}
            try:
                async with self._take_turn() if takes_turn else nullcontext():
                    return await loop.run_in_executor(self._threads, self._call, call)
            except BodyPendingError:
                environ[MAX_BYTES] = call[MAX_BYTES]
                environ[JUDGED] = True
                return None
            except InspectionPendingError as error:
                began_s = loop.time()
                await self._wait(error.upload_ids, error.wait_s)
                waited_s += loop.time() - began_s
            if body.seekable():
                body.seek(0)
            environ[JUDGED] = True

    @asynccontextmanager
    async def _take_turn(self) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block, or after `TURN_S`."""
        await self._turns.acquire()
        with ExitStack() as turn:
            turn.callback(self._turns.release)
            timer = asyncio.get_running_loop().call_later(TURN_S, turn.close)
            turn.callback(timer.cancel)
            yield

    def _call(self, environ: "WSGIEnvironment") -> _Response:
        status, headers = "", list[tuple[bytes, bytes]]()

        def start_response(given: str, pairs: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
            nonlocal status, headers
            status = given
            headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
            return _refuse_write

        parts = self._wsgi(environ, start_response)
        close = getattr(parts, "close", _do_nothing)
        iterator = iter(parts)
        first = next(iterator, b"")
        code = int(status[:3])
        lengths = [int(value) for name, value in headers if name == b"content-length"]
        if environ["REQUEST_METHOD"] == "HEAD" or code in _WITHOUT_BODY or lengths == [len(first)]:
            close()
            return _Response(code, headers, first, None, _do_nothing)
        return _Response(code, headers, first, lambda: next(iterator, None), close)

    async def _send(self, response: _Response, receive: Receive, send: Send, *, received: bool) -> None:
        """Send a response.

        Parameters
        ----------
        received
            Whether the whole request was received. Otherwise, the connection cannot be used for a further request.
        """
        headers = response.headers if received else [*response.headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        more = response.read_more is not None
        await send({"type": "http.response.body", "body": response.first, "more_body": more})
        if response.read_more is not None:
            await self._send_rest(response, response.read_more, receive, send)
        if not received:
            await _discard(receive)

    async def _send_rest(
        self, response: _Response, read_more: Callable[[], bytes | None], receive: Receive, send: Send
    ) -> None:
        """Send the parts of a body one after another; no thread waits while the client reads a part."""
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        reading = None
        try:
            while not gone.done():
                reading = self._threads.submit(read_more)
                part = await asyncio.wrap_future(reading)
                await send({"type": "http.response.body", "body": part or b"", "more_body": part is not None})
                if part is None:
                    return
        finally:
            gone.cancel()
            if reading is None:
                response.close()
            else:  # if this task is cancelled, a thread may still compute a part
                reading.add_done_callback(lambda _: response.close())


def _make_environ(scope: Message) -> "WSGIEnvironment":
    """Make the environment of a WSGI application (PEP 3333) from the scope of an ASGI request."""
    host, port = scope["server"]
    path = _ABSOLUTE.sub(b"", scope["raw_path"]) or b"/"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": _wrap_file,
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        given = value.decode("latin-1")
        separator = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{separator}{given}" if key in environ else given
    return environ


def _wrap_file(file: IO[bytes], _block_bytes: int = 0) -> Iterable[bytes]:
    return FileWrapper(file, FILE_BLOCK_BYTES)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _discard(receive: Receive) -> None:
    """Read and discard the rest of a body for a short time."""
    try:
        async with asyncio.timeout(LINGER_S):
            while (message := await receive())["type"] != "http.disconnect" and message.get("more_body", False):
                pass
    except TimeoutError:
        return


def _refuse_write(_: bytes) -> object:
    raise NotImplementedError("the application returns all parts of a body")


def _do_nothing() -> None:
    pass
