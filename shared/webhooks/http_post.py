"""The HTTP request that delivers a webhook message; it goes only to an address that was checked."""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from urllib3.connection import HTTPConnection, HTTPSConnection

from shared.webhooks.target import WebhookTarget

TIMEOUT_S: Final = 10.0
"""The time limit for connecting to a target. After that, request and response together get this time once more."""


def post(target: WebhookTarget, body: bytes, headers: Mapping[str, str], attempt: int) -> int:
    """Post to one of the addresses of a target, and return the HTTP status; the body of the response is not read.

    Redirects are not followed and proxies are not used: both could lead to an address that was not checked.

    Parameters
    ----------
    attempt
        The number of the attempt, counted from 1; each attempt uses the next address of the target.
    """
    connection = _open(target, target.addresses[(attempt - 1) % len(target.addresses)])
    try:
        connection.connect()
        # The timeout of the connection limits only a single read, and the target decides how many reads are needed.
        # So a timer limits all reads together.
        deadline = threading.Timer(TIMEOUT_S, _shut_down, [connection.sock])
        deadline.start()
        try:
            all_headers = {"Host": target.authority, "User-Agent": "mindjobs"} | dict(headers)
            connection.request("POST", target.path, body, all_headers, preload_content=False)
            return connection.getresponse().status
        finally:
            deadline.cancel()
    finally:
        connection.close()


def _open(target: WebhookTarget, address: str) -> HTTPConnection:
    if target.scheme == "http":
        return HTTPConnection(address, target.port, timeout=TIMEOUT_S)
    return HTTPSConnection(
        address, target.port, timeout=TIMEOUT_S, server_hostname=target.host, assert_hostname=target.host
    )


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # raised if the connection has just ended
        connection.shutdown(socket.SHUT_RDWR)
