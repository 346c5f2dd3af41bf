"""The target of a webhook: the addresses of the host in its URL, and whether these addresses may be called."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.errors import RequestInvalidError
from shared.texts import Value, text

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class WebhookTarget:
    """A URL, with the addresses to which its host was resolved.

    Parameters
    ----------
    authority
        Host and port in the form of the URL.
    path
        Path and query of the URL.
    """

    scheme: str
    authority: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]


def resolve_target(url: str, *, private: bool) -> WebhookTarget:
    """Resolve the host of a webhook and check its addresses.

    Parameters
    ----------
    private
        Whether addresses that are not public are allowed.

    Raises
    ------
    RequestInvalidError
        The URL is not valid, its host is unknown, or an address of the host is not allowed.
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
    """Return whether an address is public on the internet and belongs to a single receiver (is not multicast)."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        inner = _unwrap(parsed)
        if inner is None:
            return parsed.is_global and parsed in _GLOBAL_UNICAST
        parsed = inner
    return parsed.is_global and not parsed.is_multicast


def _unwrap(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a gateway or the operating system extracts from an IPv6 address, or ``None``."""
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
