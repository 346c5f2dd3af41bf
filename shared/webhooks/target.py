"""The target of a webhook: the addresses of the host in its URL, and whether these addresses may be called."""

from collections.abc import Callable
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.errors import RequestInvalidError
from shared.texts import Value, text
from shared.webhooks.host_lookup import Addresses, find_addresses
from shared.webhooks.special_addresses import is_public


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
    addresses: Addresses


def resolve_target(
    url: str, *, private: bool, look_up: Callable[[str, int], Addresses] = find_addresses
) -> WebhookTarget:
    """Resolve the host of a webhook and check its addresses.

    Parameters
    ----------
    private
        Whether addresses that are not public are allowed.
    look_up
        Returns the addresses of a host. The default has no time limit.

    Raises
    ------
    RequestInvalidError
        The URL is not valid, its host is unknown, or an address of the host is not allowed.
    TimeoutError
        The addresses of the host are not known, since the lookup takes too long.
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
    addresses = _resolve(host, port, look_up)
    if not private and not all(is_public(address) for address in addresses):
        raise _refuse("webhook-address-private")
    return WebhookTarget(parts.scheme, parts.netloc or host, host, port, parts.request_uri, addresses)


def _resolve(host: str, port: int, look_up: Callable[[str, int], Addresses]) -> Addresses:
    try:
        return look_up(host, port)
    except TimeoutError:
        raise
    except (OSError, UnicodeError) as error:
        raise _refuse("webhook-host-unknown", host=host) from error


def _refuse(code: str, /, **values: Value) -> RequestInvalidError:
    return RequestInvalidError.at("/webhook/url", text(code, **values))
