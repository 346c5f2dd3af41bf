"""Sends bytes to a web server as they are, to see how the server reads requests that no client library sends."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from tests.support.waiting import DEADLINE_S


@contextmanager
def connect(port: int, request: bytes, *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """Open a connection, send the bytes of a request or of a part of it, and keep the connection open.

    Parameters
    ----------
    receive_buffer
        The size of the buffer for received bytes. If it is small, the server soon has to wait for a client that does
        not read.
    """
    with socket.socket() as connection:
        connection.settimeout(DEADLINE_S)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(("127.0.0.1", port))
        connection.sendall(request)
        yield connection


def read_until_closed(connection: socket.socket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    received = b""
    while part := connection.recv(2**16):
        received += part
    return received


def exchange(port: int, request: bytes, *, end: bool = False) -> bytes:
    """Send a request after which the server must close the connection, and return everything that it sends.

    Parameters
    ----------
    end
        Whether the client shows after its request that it sends nothing more.
    """
    with connect(port, request) as connection:
        if end:
            connection.shutdown(socket.SHUT_WR)
        return read_until_closed(connection)


def read_statuses(received: bytes) -> list[HTTPStatus]:
    """Return the statuses of all responses in the received bytes."""
    return [HTTPStatus(int(status)) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
