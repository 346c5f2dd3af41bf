"""Which IP addresses are public, according to the registries of special-purpose addresses.

The table is here, and not taken from Python's ``ipaddress``, because the table there differs between patch versions of
Python: 3.11.10, 3.12.4 and 3.13 corrected it.

References
----------
- IANA IPv4 Special-Purpose Address Registry, https://www.iana.org/assignments/iana-ipv4-special-registry
- IANA IPv6 Special-Purpose Address Registry, https://www.iana.org/assignments/iana-ipv6-special-registry
- RFC 6890, which made the registries, and the RFC that stands beside each network
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

SPECIAL_IPV4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network: RFC 791
            "10.0.0.0/8",  # private: RFC 1918
            "100.64.0.0/10",  # shared by the customers of a provider: RFC 6598
            "127.0.0.0/8",  # loopback: RFC 1122
            "169.254.0.0/16",  # link-local: RFC 3927
            "172.16.0.0/12",  # private: RFC 1918
            # Assigned to protocols: RFC 6890. The anycast addresses in this network, such as 192.0.0.9 (RFC 7723),
            # belong to the gateway of the local network, so these are refused too.
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation: RFC 5737
            "192.88.99.0/24",  # relays of 6to4, deprecated: RFC 7526
            "192.168.0.0/16",  # private: RFC 1918
            "198.18.0.0/15",  # benchmarks: RFC 2544
            "198.51.100.0/24",  # documentation: RFC 5737
            "203.0.113.0/24",  # documentation: RFC 5737
            "224.0.0.0/4",  # multicast: RFC 5771
            "240.0.0.0/4",  # reserved: RFC 1112; and the limited broadcast address: RFC 8190
        ),
    )
)
GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The only IPv6 addresses that are assigned to hosts on the internet (RFC 4291); all others are special."""
SPECIAL_IPV6: Final = tuple(
    map(
        IPv6Network,
        (
            # Assigned to protocols: RFC 2928. This includes Teredo (2001::/32, RFC 4380), whose addresses contain IPv4
            # addresses, and small networks that the registry calls reachable, such as ORCHIDv2 (2001:20::/28, RFC 7343)
            # and AS112 (2001:4:112::/48, RFC 7535). None of these has servers that receive webhooks.
            "2001::/23",
            "2001:db8::/32",  # documentation: RFC 3849
            "3fff::/20",  # documentation: RFC 9637
        ),
    )
)
"""The networks within `GLOBAL_UNICAST` that are special."""
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052


def is_public(address: str) -> bool:
    """Return whether an address is public on the internet and belongs to a single receiver (is not multicast)."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        inner = _unwrap(parsed)
        if inner is None:
            return parsed in GLOBAL_UNICAST and not any(parsed in network for network in SPECIAL_IPV6)
        parsed = inner
    return not any(parsed in network for network in SPECIAL_IPV4)


def _unwrap(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a gateway or the operating system extracts from an IPv6 address, or ``None``.

    IPv6 addresses contain IPv4 addresses for NAT64 (RFC 6052), as mapped addresses (RFC 4291), and for 6to4 (RFC 3056).
    """
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
