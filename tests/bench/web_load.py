"""Loads a web on loopback, for a bounded time, from a process of its own, and parses no more than it must."""

import selectors
import socket
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
    """A connection that is kept, and asks for one thing after another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)

    def get(self, path: str, *headers: str) -> bytes:
        """Ask, and read the whole answer; return its body."""
        self.send(path, *headers)
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += self._receive()
        head, _, body = heard.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{path} was answered {head.decode()}")
        length = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._receive()
        return body

    def send(self, path: str, *headers: str) -> None:
        """Ask, and read nothing."""
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def _receive(self) -> bytes:
        heard = self.socket.recv(2**18)
        if not heard:
            raise RuntimeError("the web has closed a connection in the middle of an answer")
        return heard


def count_answers(port: int, path: str, duration_s: float) -> float:
    """Ask for one thing over and over on several connections; return the answers per second."""

    def ask(_: int) -> int:
        connection = Connection(port)
        with connection.socket:
            answers = 0
            while time.perf_counter() < end:
                connection.get(path)
                answers += 1
            return answers

    end = time.perf_counter() + duration_s
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(ask, range(CONNECTIONS))) / duration_s


def time_answers(port: int, path: str, count: int, *headers: str) -> list[float]:
    """Ask for one thing over and over on one connection; return how long each answer took, in seconds."""
    connection = Connection(port)
    taken_s = []
    with connection.socket:
        for _ in range(count):
            began = time.perf_counter()
            connection.get(path, *headers)
            taken_s.append(time.perf_counter() - began)
    return taken_s


def poll_beside_streams(
    port: int, job_ids: Sequence[str], polls_per_s: int, duration_s: float
) -> tuple[list[float], int]:
    """Hold an event stream of each job open, and ask for the jobs in turn, so many times a second.

    Returns
    -------
    taken_s, events
        How long each answer took from the moment that its turn came, whether or not it could be asked for by then;
        and how many events came.
    """
    turns = iter(range(int(polls_per_s * duration_s)))
    lock = threading.Lock()

    def poll(_: int) -> list[float]:
        connection = Connection(port)
        taken_s: list[float] = []
        with connection.socket:
            while True:
                with lock:
                    turn = next(turns, None)
                if turn is None:
                    return taken_s
                due = began + turn / polls_per_s
                time.sleep(max(0.0, due - time.perf_counter()))
                connection.get(f"/api/v1/jobs/{job_ids[turn % len(job_ids)]}")
                taken_s.append(time.perf_counter() - due)

    with ExitStack() as stack:
        streams = [Connection(port) for _ in job_ids]
        for stream, job_id in zip(streams, job_ids, strict=True):
            stack.enter_context(stream.socket)
            stream.send(f"/api/v1/jobs/{job_id}/events", _STREAM)
        pool = stack.enter_context(ThreadPoolExecutor(CONNECTIONS + 1))
        began = time.perf_counter() + 1.0  # the streams have begun by then
        heard = pool.submit(_hear, streams, began + duration_s)
        taken = [one for some in pool.map(poll, range(CONNECTIONS)) for one in some]
        return taken, heard.result()


def _hear(streams: Sequence[Connection], until: float) -> int:
    """Count the events that come."""
    events = 0
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ)
        while (left_s := until - time.perf_counter()) > 0:
            for key, _ in selector.select(left_s):
                heard = key.fileobj.recv(2**16)  # type: ignore[union-attr]  # the socket that was registered
                if not heard:
                    raise RuntimeError("the web has ended a stream of a job that still runs")
                events += heard.count(b"event: ")
    return events
