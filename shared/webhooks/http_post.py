"""The HTTP request that delivers a webhook message: it goes to an address that was checked, and to no other."""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from urllib3.connection import HTTPConnection, HTTPSConnection

from shared.webhooks.target import WebhookTarget

TIMEOUT_S: Final = 10.0
"""How long connecting to a target may take, and again its response."""


def post(target: WebhookTarget, body: bytes, headers: Mapping[str, str], attempt: int) -> int:
    """Post to one of the addresses of a target, and return the status of the response, whose body is not read.

    Redirects are not followed and proxies are not used: either would lead to an address that was not checked.

    Parameters
    ----------
    attempt
        Counted from 1; each attempt uses the next address.
    """
    connection = _open(target, target.addresses[(attempt - 1) % len(target.addresses)])
    try:
        connection.connect()
        # A timeout limits each read, and the other side decides how many reads there are.
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
    with suppress(OSError):  # the connection has just ended
        connection.shutdown(socket.SHUT_RDWR)
