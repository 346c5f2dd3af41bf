"""Trusted proxies: what they say about the client replaces what the server sees of the proxy.

`MINDJOBS_TRUSTED_PROXIES` is the number of proxies in front of the web application. Each of them adds a value to the
headers ``X-Forwarded-…`` or passes on the value of a trusted proxy before it. So the last values, as many as there are
proxies, come from them, and the first of these describes the client. Anyone can have written the values before.

This works on WSGI's variables alone, so it does not depend on the server. werkzeug's ``ProxyFix`` is not used: it
ignores a header that has fewer values than there are proxies, as ``X-Forwarded-Host`` has in most chains of proxies,
and it accepts any scheme, host and prefix.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from flask import Flask, request
from werkzeug.sansio.utils import host_is_trusted

from shared.errors import RequestMalformedError
from shared.texts import text
from web.context import get_context

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_FORWARDED: Final = "mindjobs.forwarded"
"""The key of `_Forwarded` in WSGI's variables."""
_SCHEMES: Final = frozenset({"http", "https"})
# Segments that consist of dots only would lead a browser out of the prefix.
_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*", re.ASCII)
_PORT: Final = re.compile(r":[0-9]+$", re.ASCII)
_ADDRESS: Final = re.compile(r"\[(.+)\](?::[0-9]+)?|([0-9.]+):[0-9]+", re.ASCII)


@dataclass(frozen=True)
class _Forwarded:
    """What the trusted proxies say about a request; a field is empty if they do not say it.

    Parameters
    ----------
    sent_host
        The header ``Host`` of the request itself, which the proxy nearest to the service sent; ``None`` if there was
        no such header.
    """

    sent_host: str | None
    scheme: str = ""
    host: str = ""
    prefix: str = ""

    def check(self) -> None:
        """Raise an error if the scheme or the prefix is not valid.

        Raises
        ------
        RequestMalformedError
            The scheme or the prefix is not valid.
        """
        for header, value, valid in (
            ("X-Forwarded-Proto", self.scheme, self.scheme in _SCHEMES),
            ("X-Forwarded-Prefix", self.prefix, _PREFIX.fullmatch(self.prefix)),
        ):
            if value and not valid:
                raise RequestMalformedError(text("forwarded-invalid", header=header, value=value))


def init_app(app: Flask) -> None:
    """Believe the trusted proxies, and refuse requests under a host name that is not a name of this instance."""
    settings = get_context(app).services.settings
    host_names, named_hosts = settings.host_names, settings.named_hosts
    app.wsgi_app = _believe_proxies(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign, assignment]  # the way that Flask documents

    @app.before_request
    def check_hosts() -> None:
        """Check ``Host`` even behind a proxy.

        A page of another site whose name leads to loopback (DNS rebinding) can send all headers of a proxy, but not
        another ``Host`` than its own.
        """
        forwarded: _Forwarded = request.environ[_FORWARDED]
        if host_names is not None and forwarded.sent_host is not None:
            _check_host(forwarded.sent_host, host_names)
        forwarded.check()
        if forwarded.host:
            _check_host(forwarded.host, named_hosts)


def _believe_proxies(application: "WSGIApplication", proxies: int) -> "WSGIApplication":
    def application_behind_proxies(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        # The application is at the root of its server, which itself has no HTTPS. Some servers believe headers that
        # say otherwise, such as SCRIPT_NAME and X-Forwarded-Proto, from any program on this machine.
        environ["PATH_INFO"] = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        environ["SCRIPT_NAME"] = ""
        environ["wsgi.url_scheme"] = "http"
        environ[_FORWARDED] = _apply(environ, proxies) if proxies else _Forwarded(environ.get("HTTP_HOST"))
        return application(environ, start)

    return application_behind_proxies


def _apply(environ: "WSGIEnvironment", proxies: int) -> _Forwarded:
    """Replace what the server sees by what the proxies say; a request with a wrong host or prefix is refused later."""
    forwarded = _Forwarded(
        sent_host=environ.get("HTTP_HOST"),
        scheme=_choose(environ, "PROTO", proxies).lower(),
        host=_choose(environ, "HOST", proxies).lower(),
        prefix=_choose(environ, "PREFIX", proxies).removesuffix("/"),
    )
    environ["REMOTE_ADDR"] = _parse_address(_choose(environ, "FOR", proxies)) or environ.get("REMOTE_ADDR", "")
    if forwarded.scheme in _SCHEMES:
        environ["wsgi.url_scheme"] = forwarded.scheme
    if forwarded.host:
        environ["HTTP_HOST"] = forwarded.host
    if _PREFIX.fullmatch(forwarded.prefix):
        environ["SCRIPT_NAME"] = forwarded.prefix
    return forwarded


def _choose(environ: "WSGIEnvironment", name: str, proxies: int) -> str:
    """Return the first of the values that the trusted proxies added to a header; empty if there is none."""
    values = environ.get(f"HTTP_X_FORWARDED_{name}", "").split(",")
    return str(values[-proxies:][0]).strip()


def _parse_address(value: str) -> str:
    """Return the address of a client without a port; empty if the value is not an address, such as ``unknown``."""
    with_port = _ADDRESS.fullmatch(value)
    try:
        address = ip_address((with_port[1] or with_port[2]) if with_port else value)
    except ValueError:
        return ""
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


def _check_host(host: str, names: Collection[str]) -> None:
    """Raise an error if a host is not one of these names. The port does not count.

    Raises
    ------
    RequestMalformedError
        The host is not one of these names.
    """
    host = host.lower()
    # werkzeug's function reads a name up to the first colon, so it knows no IPv6 addresses.
    if _PORT.sub("", host) not in names and not (names and host_is_trusted(host, names)):
        raise RequestMalformedError(text("host-untrusted", host=host))
