"""Sends HTTP requests to a web server on loopback, and parses only the necessary parts of the responses.

Measurements call these functions in a process of their own.
"""

import selectors
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

CONNECTIONS: Final = 16
TIMEOUT_S: Final = 30.0
_LENGTH: Final = b"\r\ncontent-length: "
_STREAM: Final = "Accept: text/event-stream"


class Connection:
    """A connection to the server that stays open for several requests, which are sent one after another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)

    def get(self, path: str, *headers: str) -> bytes:
        """Send a request, and read the whole response; return its body."""
        self.send(path, *headers)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the response to {path} was {head.decode()}")
        length = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._receive()
        return body

    def send(self, path: str, *headers: str) -> None:
        """Send a request, and do not read the response."""
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def _receive(self) -> bytes:
        received = self.socket.recv(2**18)
        if not received:
            raise RuntimeError("the server closed a connection before the end of a response")
        return received


def count_responses(port: int, path: str, duration_s: float) -> float:
    """Send the same request again and again on several connections; return the responses per second."""

    def send_requests(_: int) -> int:
        connection = Connection(port)
        with connection.socket:
            responses = 0
            while time.perf_counter() < end_s:
                connection.get(path)
                responses += 1
            return responses

    end_s = time.perf_counter() + duration_s
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(send_requests, range(CONNECTIONS))) / duration_s


def time_responses(port: int, path: str, count: int, *headers: str) -> list[float]:
    """Send the same request ``count`` times on one connection; return the duration of each request, in seconds."""
    connection = Connection(port)
    times_s = []
    with connection.socket:
        for _ in range(count):
            start_s = time.perf_counter()
            connection.get(path, *headers)
            times_s.append(time.perf_counter() - start_s)
    return times_s


def poll_during_streams(
    port: int, job_ids: Sequence[str], polls_per_s: int, duration_s: float
) -> tuple[list[float], int]:
    """Hold an event stream of each job open, and poll the jobs in turn at a fixed rate.

    Returns
    -------
    times_s, events
        The duration of each poll, counted from the time at which the poll was due, even if it could only be sent
        later; and the number of events that all streams delivered.
    """
    numbers = iter(range(int(polls_per_s * duration_s)))
    lock = threading.Lock()

    def poll(_: int) -> list[float]:
        connection = Connection(port)
        times_s: list[float] = []
        with connection.socket:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return times_s
                due_s = start_s + number / polls_per_s
                time.sleep(max(0.0, due_s - time.perf_counter()))
                connection.get(f"/api/v1/jobs/{job_ids[number % len(job_ids)]}")
                times_s.append(time.perf_counter() - due_s)

    with ExitStack() as stack:
        streams = [Connection(port) for _ in job_ids]
        for stream, job_id in zip(streams, job_ids, strict=True):
            stack.enter_context(stream.socket)
            stream.send(f"/api/v1/jobs/{job_id}/events", _STREAM)
        pool = stack.enter_context(ThreadPoolExecutor(CONNECTIONS + 1))
        start_s = time.perf_counter() + 1.0  # the streams have started by then
        events = pool.submit(_count_events, streams, start_s + duration_s)
        times_s = [each for some in pool.map(poll, range(CONNECTIONS)) for each in some]
        return times_s, events.result()


def _count_events(streams: Sequence[Connection], end_s: float) -> int:
    events = 0
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ)
        while (left_s := end_s - time.perf_counter()) > 0:
            for key, _ in selector.select(left_s):
                received = key.fileobj.recv(2**16)  # type: ignore[union-attr]  # the socket that was registered
                if not received:
                    raise RuntimeError("the server ended the event stream of a job that still runs")
                events += received.count(b"event: ")
    return events


def find_percentiles_ms(times_s: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th percentile, the 99th percentile and the maximum, in milliseconds."""
    cuts = statistics.quantiles(times_s, n=100, method="inclusive")
    return 1_000 * cuts[49], 1_000 * cuts[98], 1_000 * max(times_s)
