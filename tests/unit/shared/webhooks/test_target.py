"""The URLs that a webhook may have. A host with a private address is refused, in every notation."""

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from shared.errors import RequestInvalidError
from shared.webhooks import target
from shared.webhooks.special_addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - nothing is bound to it
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.170",
        "192.88.99.1",
        "192.88.99.255",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:808:808::f7f7:f7f7",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "2002:c058:6301::1",
        "2002:6440:1::1",
        "64:ff9b::192.88.99.1",
        "64:ff9b::100.64.0.1",
        "::ffff:192.88.99.1",
        "::ffff:0:8.8.8.8",
        "::8.8.8.8",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_address_that_is_not_public_is_recognised(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "172.32.0.1",
        "192.0.1.1",
        "192.88.98.1",
        "2001:200::1",
        "3fff:1000::1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_public_address_is_recognised(address: str) -> None:
    assert is_public(address)


def test_result_does_not_depend_on_the_table_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> bool:
        raise AssertionError

    for name in ("is_global", "is_private", "is_reserved", "is_multicast"):
        for kind in (IPv4Address, IPv6Address):
            monkeypatch.setattr(kind, name, property(fail))
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")
    assert not is_public("192.88.99.1")
    assert not is_public("3fff::1")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%251]",
        "10.0.0.1:8443",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_host_is_refused_in_every_notation(scheme: str, host: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        target.resolve_target(f"{scheme}://{host}/hook", private=False)
    (problem,) = caught.value.problems
    assert problem.pointer == "/webhook/url"
    assert "not public" in problem.detail or "is not found" in problem.detail


def test_error_for_a_private_host_names_the_setting_that_allows_private_hosts() -> None:
    for host in ("127.1", "0x7f000001", "localhost", "[::ffff:7f00:1]", "2130706433"):
        with pytest.raises(RequestInvalidError, match=r"not public.*MINDJOBS_ALLOW_PRIVATE_WEBHOOKS=true"):
            target.resolve_target(f"http://{host}/hook", private=False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://", "is not a URL"),
        ("http:///path", "is not a URL"),
        ("http://:80/", "is not a URL"),
        ("https://8.8.8.8:0/", "is not a URL"),
        ("https://8.8.8.8:65536/", "is not a URL"),
        ("https://8.8.8.8:-1/", "is not a URL"),
        ("https://8.8.8.8:port/", "is not a URL"),
        ("https://[8.8.8.8/", "is not a URL"),
        ("https://8.8.8.8\r\nHost: there/", "is not a URL"),
        ("https://１２７.0.0.1/", "is not a URL"),  # noqa: RUF001 - full-width digits, which must be refused
        ("ftp://8.8.8.8/", "is not a URL"),
        ("https://me@8.8.8.8/", "leave them out"),
        ("https://me:secret@8.8.8.8/", "leave them out"),
        ("https://8.8.8.8:80@127.0.0.1/", "leave them out"),
        ("https://nowhere.invalid/", "'nowhere.invalid', which is not found"),
        ("https://a..b/", "is not found"),
        (f"https://{'a' * 64}.example/", "is not found"),
        ("https://256.256.256.256/", "is not found"),
    ],
)
@pytest.mark.parametrize("private", [False, True])
def test_url_that_cannot_be_called_is_refused_with_the_reason(url: str, words: str, *, private: bool) -> None:
    with pytest.raises(RequestInvalidError, match=words) as caught:
        target.resolve_target(url, private=private)
    assert [problem.pointer for problem in caught.value.problems] == ["/webhook/url"]
    assert "secret" not in caught.value.detail


def test_public_url_is_split_into_its_parts() -> None:
    found = target.resolve_target("HTTPS://8.8.8.8:8443/a b/../hook?q=ü&x=1#part", private=False)
    assert found == target.WebhookTarget("https", "8.8.8.8:8443", "8.8.8.8", 8443, "/hook?q=%C3%BC&x=1", ("8.8.8.8",))
    six = target.resolve_target("http://[2606:4700::1111]", private=False)
    assert (six.authority, six.host, six.port, six.path) == ("[2606:4700::1111]", "2606:4700::1111", 80, "/")


def test_private_host_is_accepted_if_private_hosts_are_allowed() -> None:
    found = target.resolve_target("http://localhost:8080/hook", private=True)
    assert set(found.addresses) <= {"127.0.0.1", "::1"}
    assert (found.authority, found.port) == ("localhost:8080", 8080)


def test_host_with_a_public_and_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["8.8.8.8", "10.0.0.1"]

    def look_up(_host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(RequestInvalidError, match="not public"):
        target.resolve_target("https://hooks.example/", private=False)
    addresses.pop()
    assert target.resolve_target("https://hooks.example/", private=False).addresses == ("8.8.8.8",)
