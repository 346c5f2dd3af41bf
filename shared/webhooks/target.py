"""Where a webhook leads, and the way there: to an address that was looked at, and to no other."""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.errors import RequestInvalidError

TIMEOUT_S: Final = 10.0
"""How long an endpoint may take to be reached, and again to answer."""
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class WebhookTarget:
    """A URL, and the addresses that its host had when they were looked at.

    Parameters
    ----------
    authority
        Host and port as the URL writes them.
    target
        Path and query.
    """

    scheme: str
    authority: str
    host: str
    port: int
    target: str
    addresses: tuple[str, ...]

    def post(self, body: bytes, headers: Mapping[str, str], attempt: int) -> int:
        """Post to one of the addresses, and return the status of the answer, whose body is not read.

        No redirect is followed, and no proxy asked: either would lead to where nobody looked.

        Parameters
        ----------
        attempt
            Counted from 1; each takes the next address.
        """
        connection = self._open(self.addresses[(attempt - 1) % len(self.addresses)])
        try:
            connection.connect()
            # A timeout is for each read, and there are as many as the other side likes.
            hanging_up = threading.Timer(TIMEOUT_S, _hang_up, [connection.sock])
            hanging_up.start()
            try:
                all_headers = {"Host": self.authority, "User-Agent": "mindjobs"} | dict(headers)
                connection.request("POST", self.target, body, all_headers, preload_content=False)
                return connection.getresponse().status
            finally:
                hanging_up.cancel()
        finally:
            connection.close()

    def _open(self, address: str) -> HTTPConnection:
        if self.scheme == "http":
            return HTTPConnection(address, self.port, timeout=TIMEOUT_S)
        return HTTPSConnection(
            address, self.port, timeout=TIMEOUT_S, server_hostname=self.host, assert_hostname=self.host
        )


def resolve_target(url: str, *, private: bool) -> WebhookTarget:
    """Find where a webhook leads.

    Parameters
    ----------
    private
        Whether it may lead to addresses that are not public.

    Raises
    ------
    RequestInvalidError
        It cannot be called, or must not be.
    """
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise _refuse("is not a URL that can be called; write it as https://host:port/path") from error
    if not parts.host or parts.scheme not in {"http", "https"} or parts.port == 0:
        raise _refuse("is not a URL that can be called; write it as https://host:port/path")
    if parts.auth is not None:
        raise _refuse("holds a user name or a password; leave them out, since every message is signed")
    host = parts.host.strip("[]")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    addresses = _look_up(host, port)
    if not private and not all(is_public(address) for address in addresses):
        raise _refuse(
            "leads to an address that is not public; give one that is, or let whoever runs this instance set "
            "MINDJOBS_ALLOW_PRIVATE_WEBHOOKS=true"
        )
    return WebhookTarget(parts.scheme, parts.netloc or host, host, port, parts.request_uri, addresses)


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet's, for a single receiver."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        inner = _unwrap(parsed)
        if inner is None:
            return parsed.is_global and parsed in _GLOBAL_UNICAST
        parsed = inner
    return parsed.is_global and not parsed.is_multicast


def _unwrap(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a gateway, or the system itself, makes of one of IPv6."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _look_up(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _refuse(f"names the host {host!r}, which is not found; check its spelling") from error
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


def _refuse(detail: str) -> RequestInvalidError:
    return RequestInvalidError.at("/webhook/url", detail)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended in this moment
        connection.shutdown(socket.SHUT_RDWR)
