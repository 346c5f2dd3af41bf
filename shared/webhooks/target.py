"""The target of a webhook: its addresses are checked, and the request goes to a checked address and to no other."""

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
from shared.texts import Value, text

TIMEOUT_S: Final = 10.0
"""How long connecting to a target may take, and again its response."""
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class WebhookTarget:
    """A URL, with the addresses that its host had when it was resolved.

    Parameters
    ----------
    authority
        Host and port in the form of the URL.
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
        """Post to one of the addresses, and return the status of the response, whose body is not read.

        Redirects are not followed and proxies are not used: either would lead to an address that was not checked.

        Parameters
        ----------
        attempt
            Counted from 1; each attempt uses the next address.
        """
        connection = self._open(self.addresses[(attempt - 1) % len(self.addresses)])
        try:
            connection.connect()
            # A timeout limits each read, and the other side decides how many reads there are.
            deadline = threading.Timer(TIMEOUT_S, _shut_down, [connection.sock])
            deadline.start()
            try:
                all_headers = {"Host": self.authority, "User-Agent": "mindjobs"} | dict(headers)
                connection.request("POST", self.target, body, all_headers, preload_content=False)
                return connection.getresponse().status
            finally:
                deadline.cancel()
        finally:
            connection.close()

    def _open(self, address: str) -> HTTPConnection:
        if self.scheme == "http":
            return HTTPConnection(address, self.port, timeout=TIMEOUT_S)
        return HTTPSConnection(
            address, self.port, timeout=TIMEOUT_S, server_hostname=self.host, assert_hostname=self.host
        )


def resolve_target(url: str, *, private: bool) -> WebhookTarget:
    """Resolve the host of a webhook and check its addresses.

    Parameters
    ----------
    private
        Whether addresses that are not public are allowed.

    Raises
    ------
    RequestInvalidError
        The URL cannot be called, or must not be.
    """
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise _refuse("webhook-url-invalid") from error
    if not parts.host or parts.scheme not in {"http", "https"} or parts.port == 0:
        raise _refuse("webhook-url-invalid")
    if parts.auth is not None:
        raise _refuse("webhook-url-credentials")
    host = parts.host.strip("[]")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    addresses = _resolve(host, port)
    if not private and not all(is_public(address) for address in addresses):
        raise _refuse("webhook-address-private")
    return WebhookTarget(parts.scheme, parts.netloc or host, host, port, parts.request_uri, addresses)


def is_public(address: str) -> bool:
    """Whether an address is public on the internet and of a single receiver."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        inner = _unwrap(parsed)
        if inner is None:
            return parsed.is_global and parsed in _GLOBAL_UNICAST
        parsed = inner
    return parsed.is_global and not parsed.is_multicast


def _unwrap(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a gateway, or the system itself, extracts from an IPv6 address."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _resolve(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _refuse("webhook-host-unknown", host=host) from error
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


def _refuse(code: str, /, **values: Value) -> RequestInvalidError:
    return RequestInvalidError.at("/webhook/url", text(code, **values))


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the connection has just ended
        connection.shutdown(socket.SHUT_RDWR)
