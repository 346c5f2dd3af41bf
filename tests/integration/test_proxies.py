"""Proxies in front of the web: what is believed of their headers, and pages and forms under a prefix."""

import io
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
import soundfile
from flask import Flask, request, request_started
from werkzeug.test import Client, TestResponse

from shared.services import Services
from tests.integration.conftest import MakeApp, ServeWeb
from tests.support.auth_headers import make_auth_headers
from tests.support.html_pages import Page
from tests.support.job_outcomes import MUSIC, make_sample, succeed
from tests.support.waiting import DEADLINE_S, wait_until
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HOST = "jobs.example.org"
PREFIX = "/mindjobs"
BEHIND_A_PROXY = {"trusted_proxies": 1, "trusted_hosts": HOST}
FORWARDED = {
    "Host": "127.0.0.1:8000",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": HOST,
    "X-Forwarded-Prefix": PREFIX,
}
INVALID_PREFIXES = [
    "//",
    "//evil.example",
    "/a//b",
    "https://evil.example",
    "mindjobs",
    "/..",
    "/a/../b",
    "/./a",
    "/a%2f..",
    "/a?b",
    "/a#b",
    "/a;b",
    "/é",
    "/<a>",
    "/a b",
    "/a\tb",
    "/a\\b",
    '/a"b',
]
PROXY_ADDRESS = "127.0.0.1"  # werkzeug's test client sends its requests from this address
HTML = {"Accept": "text/html"}


@dataclass(frozen=True)
class Seen:
    """What the application sees of a request."""

    client: str | None
    scheme: str
    host: str
    prefix: str


def see(app: Flask, headers: Mapping[str, str], path: str = "/healthz") -> Seen:
    """Send a request, and return what the application sees of it."""
    seen: list[Seen] = []

    def record(_: Flask) -> None:
        seen.append(Seen(request.remote_addr, request.scheme, request.host, request.script_root))

    with request_started.connected_to(record, app):
        app.test_client().get(path, headers=headers)
    (one,) = seen
    return one


class Browser(Client):
    """A browser whose requests go through a proxy with HTTPS, which takes the prefix off their paths."""

    def __init__(self, app: Flask) -> None:
        def proxy(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            headers = FORWARDED | {"X-Forwarded-For": self.forwarded_for}
            forwarded = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
            return app(environ | {"SCRIPT_NAME": "", "wsgi.url_scheme": "http"} | forwarded, start)

        self.forwarded_for = FORWARDED["X-Forwarded-For"]
        super().__init__(proxy)

    def open(self, *args: Any, headers: Mapping[str, str] | None = None, **options: Any) -> TestResponse:
        """Send a request, by default from a page of the service."""
        own = {"Origin": f"https://{HOST}", "Referer": f"https://{HOST}{PREFIX}/"}
        return super().open(*args, headers=own | dict(headers or {}), base_url=f"https://{HOST}{PREFIX}", **options)


def test_headers_of_proxies_have_no_effect_if_no_proxy_is_trusted(make_app: MakeApp) -> None:
    seen = see(make_app(trusted_hosts=HOST), FORWARDED)
    assert seen == Seen(PROXY_ADDRESS, "http", "127.0.0.1:8000", "")


def test_headers_of_a_trusted_proxy_are_believed(make_app: MakeApp) -> None:
    assert see(make_app(**BEHIND_A_PROXY), FORWARDED) == Seen("203.0.113.7", "https", HOST, PREFIX)
    assert see(make_app(**BEHIND_A_PROXY), {}) == Seen(PROXY_ADDRESS, "http", "localhost", "")


@pytest.mark.parametrize(
    ("proxies", "values", "client"),
    [
        (1, "192.0.2.66, 203.0.113.7", "203.0.113.7"),
        (1, "192.0.2.66, 203.0.113.7, ", PROXY_ADDRESS),
        (2, "192.0.2.66, 203.0.113.7, 198.51.100.1", "203.0.113.7"),
        (2, "203.0.113.7", "203.0.113.7"),
        (3, "192.0.2.66, 192.0.2.67,203.0.113.7 , 198.51.100.1,198.51.100.2", "203.0.113.7"),
        (1, "203.0.113.7:4711", "203.0.113.7"),
        (1, "[2001:DB8::7]:443", "2001:db8::7"),
        (1, "[2001:db8::7]", "2001:db8::7"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
        (1, "unknown", PROXY_ADDRESS),
        (1, "203.0.113.7\t<script>", PROXY_ADDRESS),
        (1, "", PROXY_ADDRESS),
    ],
)
def test_address_of_the_client_is_the_first_that_a_trusted_proxy_added(
    make_app: MakeApp, proxies: int, values: str, client: str
) -> None:
    app = make_app(**BEHIND_A_PROXY | {"trusted_proxies": proxies})
    assert see(app, FORWARDED | {"X-Forwarded-For": values}).client == client


@pytest.mark.parametrize(
    ("proxies", "hosts", "schemes", "prefixes"),
    [
        (1, f"evil.example, {HOST}", "http, https", f"/evil, {PREFIX}"),
        (2, f"evil.example,{HOST},10.0.0.7:8080", "http,https,http", f"/evil,{PREFIX},/inner"),
        (2, HOST, "https", PREFIX),  # the second proxy passes on what the first has said, as Caddy does
    ],
)
def test_only_the_values_of_the_trusted_proxies_are_believed(
    make_app: MakeApp, proxies: int, hosts: str, schemes: str, prefixes: str
) -> None:
    app = make_app(**BEHIND_A_PROXY | {"trusted_proxies": proxies})
    headers = {"X-Forwarded-Host": hosts, "X-Forwarded-Proto": schemes, "X-Forwarded-Prefix": prefixes}
    seen = see(app, FORWARDED | headers)
    assert (seen.host, seen.scheme, seen.prefix) == (HOST, "https", PREFIX)


@pytest.mark.parametrize(
    ("sent", "forwarded", "status"),
    [
        ("127.0.0.1:8000", HOST, HTTPStatus.OK),
        ("localhost:8000", "Jobs.Example.org:8443", HTTPStatus.OK),
        ("[::1]:8000", HOST, HTTPStatus.OK),
        ("127.0.0.1:8000", None, HTTPStatus.OK),
        (HOST, None, HTTPStatus.OK),
        # A page of evil.example, which leads to loopback, can send every header but another Host.
        ("evil.example", HOST, HTTPStatus.BAD_REQUEST),
        ("evil.example:8000", None, HTTPStatus.BAD_REQUEST),
        ("evil.example", "127.0.0.1", HTTPStatus.BAD_REQUEST),
        ("[::2]:8000", HOST, HTTPStatus.BAD_REQUEST),
        ("", HOST, HTTPStatus.BAD_REQUEST),
        # A proxy that forwards another host than those that the operator has named.
        ("127.0.0.1:8000", "evil.example", HTTPStatus.BAD_REQUEST),
        ("127.0.0.1:8000", f"{HOST}.evil.example", HTTPStatus.BAD_REQUEST),
        ("127.0.0.1:8000", f"evil.example@{HOST}", HTTPStatus.BAD_REQUEST),
        ("127.0.0.1:8000", f"{HOST}/x", HTTPStatus.BAD_REQUEST),
        ("127.0.0.1:8000", "127.0.0.1:8000", HTTPStatus.BAD_REQUEST),
        ("127.0.0.1:8000", "localhost", HTTPStatus.BAD_REQUEST),
    ],
)
def test_both_the_host_and_the_forwarded_host_are_checked(
    make_app: MakeApp, sent: str, forwarded: str | None, status: HTTPStatus
) -> None:
    headers = {"Host": sent} | ({"X-Forwarded-Host": forwarded} if forwarded else {})
    response = make_app(**BEHIND_A_PROXY).test_client().get("/healthz", headers=headers)
    assert response.status_code == status, response.text
    if status == HTTPStatus.BAD_REQUEST:
        assert "MINDJOBS_TRUSTED_HOSTS" in response.text


def test_forwarded_host_must_be_named_even_if_every_host_is_allowed(make_app: MakeApp) -> None:
    client = make_app(host="0.0.0.0", trusted_proxies=1).test_client()  # noqa: S104 - no socket is opened
    assert client.get("/healthz", headers={"Host": "web:8000"}).status_code == HTTPStatus.OK
    refused = client.get("/healthz", headers={"Host": "web:8000", "X-Forwarded-Host": HOST})
    assert refused.status_code == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]:8000", "192.0.2.1:8000", HOST])
def test_own_names_are_allowed_at_an_address_of_the_network(make_app: MakeApp, host: str) -> None:
    """The check that waits for the start of an instance uses these names even if others are named."""
    client = make_app(host="192.0.2.1", trusted_hosts=HOST).test_client()
    assert client.get("/healthz", headers={"Host": host}).status_code == HTTPStatus.OK
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ("/mindjobs", "/mindjobs"),
        ("/mindjobs/", "/mindjobs"),
        ("/a/b.c~d_e-f/1", "/a/b.c~d_e-f/1"),
        ("/", ""),
        ("", ""),
    ],
)
def test_prefix_is_a_path(make_app: MakeApp, given: str, prefix: str) -> None:
    app = make_app(**BEHIND_A_PROXY)
    assert see(app, FORWARDED | {"X-Forwarded-Prefix": given}).prefix == prefix


@pytest.mark.parametrize(
    ("header", "value"),
    [
        *(("X-Forwarded-Prefix", prefix) for prefix in INVALID_PREFIXES),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Proto", "ws"),
    ],
)
def test_invalid_prefix_or_scheme_is_refused(make_app: MakeApp, header: str, value: str) -> None:
    app = make_app(**BEHIND_A_PROXY)
    for path in ("/jobs", "/healthz", "/static/style.css", "/nowhere"):
        response = app.test_client().get(path, headers=FORWARDED | {header: value})
        assert response.status_code == HTTPStatus.BAD_REQUEST, path
        assert response.json is not None
        assert header in response.json["detail"]
    assert app.test_client().get("/healthz", headers=FORWARDED).status_code == HTTPStatus.OK


@pytest.mark.parametrize("proxies", [0, 1])
def test_script_name_is_not_believed(make_app: MakeApp, proxies: int) -> None:
    """Some servers set the variable SCRIPT_NAME to the header of this name."""
    app = make_app(trusted_proxies=proxies)
    make_auth_headers(app, "ada")
    client = app.test_client()
    headers = HTML | {"Script-Name": "/evil", "SCRIPT_NAME": "/evil"}
    response = client.get("/jobs", headers=headers)
    assert response.headers["Location"] == "/sign-in?next=/jobs"
    not_found = client.get("/jobs", headers=headers, environ_overrides={"SCRIPT_NAME": "/evil"})
    assert not_found.status_code == HTTPStatus.UNAUTHORIZED
    assert "/evil" not in not_found.text


def test_key_is_needed_behind_a_proxy_even_on_loopback(make_app: MakeApp) -> None:
    assert make_app().test_client().get("/api/v1/jobs").status_code == HTTPStatus.OK
    behind = make_app(**BEHIND_A_PROXY).test_client()
    for headers in (FORWARDED, {}):
        assert behind.get("/api/v1/jobs", headers=headers).status_code == HTTPStatus.UNAUTHORIZED


def sign_in(app: Flask, name: str = "ada") -> Browser:
    """Sign in through the proxy, and return the client, which has a session from then on."""
    browser = Browser(app)
    key = make_auth_headers(app, name)["Authorization"].removeprefix("Bearer ")
    response = browser.get("/jobs?state=queued", headers=HTML)
    assert response.headers["Location"] == f"{PREFIX}/sign-in?next=/jobs?state%3Dqueued"
    page = response.headers["Location"].removeprefix(PREFIX)
    form = Page(browser.get(page).text).find_form(None)
    response = browser.post(page, data=form.fields | {"key": key})
    assert response.status_code == HTTPStatus.SEE_OTHER, response.text
    assert response.headers["Location"] == f"{PREFIX}/jobs?state=queued"
    flags = {part.strip() for part in response.headers["Set-Cookie"].split(";")[1:]}
    assert {"Secure", "HttpOnly", "SameSite=Lax", f"Path={PREFIX}"} <= flags
    return browser


def open_address(browser: Browser, address: str) -> int:
    """Open an address on a page, through the proxy, and return the status of the response."""
    response = browser.get(address.removeprefix(PREFIX), buffered=True)
    if response.status_code != HTTPStatus.SEE_OTHER:
        return response.status_code
    assert response.headers["Location"].startswith(f"{PREFIX}/")
    return open_address(browser, response.headers["Location"])


def list_addresses(page: Page) -> set[str]:
    """List the addresses of this service that a browser on a page opens by itself or by a click."""
    wanted = {"a": "href", "link": "href", "script": "src", "img": "src", "audio": "src", "section": "data-events"}
    elements = [(element, name) for tag, name in wanted.items() for element in page.find_all(tag)]
    found = {element.get(name) for element, name in elements if element.get("rel") != "license"}
    return {address for address in found if address and not address.startswith("#")}


def make_audio() -> bytes:
    """Make a file of silence that can be converted to other formats."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((800, 1)), 8_000, format="OGG", subtype="VORBIS")
    return file.getvalue()


@pytest.fixture
def proxied(make_app: MakeApp) -> Flask:
    return make_app(**BEHIND_A_PROXY)


def test_every_address_on_every_page_has_the_prefix(proxied: Flask) -> None:
    services: Services = get_context(proxied).services
    browser = sign_in(proxied)
    ended = submit_through_form(browser, "/musicgen", prompts="rock")
    succeed(services, ended, MUSIC | {"samples": [make_sample(0)]}, {"audio-0.ogg": ("audio/ogg", make_audio())})
    waiting = submit_through_form(browser, "/knn")
    pages = ["/", "/knn", "/musicgen", "/jobs", "/sign-in", "/nowhere", "/api/v1/docs"]
    for page in [*pages, f"/jobs/{ended}", f"/jobs/{waiting}"]:
        shown = Page(browser.get(page, headers=HTML).text)
        addresses = list_addresses(shown)
        assert len(addresses) > 8, page
        for address in addresses:
            assert address.startswith(f"{PREFIX}/"), (page, address)
            if not address.endswith("/events"):
                assert open_address(browser, address) == HTTPStatus.OK, (page, address)
        for form in shown.forms:
            assert form.action is None or form.action.startswith(f"{PREFIX}/"), (page, form.action)
    active = [link for link in Page(browser.get("/jobs").text).find_all("a") if link.get("aria-current") == "page"]
    assert [link["href"] for link in active] == [f"{PREFIX}/jobs"]


def submit_through_form(browser: Browser, page: str, **fields: str) -> str:
    """Submit a job with a form, and return the id of the job."""
    form = Page(browser.get(page).text).find_form(PREFIX + page)
    response = browser.post(page, data=form.fields | {"device": "cpu"} | fields)
    assert response.status_code == HTTPStatus.SEE_OTHER, response.text
    address = response.headers["Location"]
    assert address.startswith(f"{PREFIX}/jobs/")
    return address.rpartition("/")[2]


def test_buttons_return_to_the_page_under_the_prefix(proxied: Flask) -> None:
    browser = sign_in(proxied)
    job_id = submit_through_form(browser, "/knn")
    page = Page(browser.get("/jobs?kind=knn").text)
    form = page.find_form(f"{PREFIX}/jobs/{job_id}/cancel")
    response = browser.post(f"/jobs/{job_id}/cancel", data=form.fields)
    assert response.headers["Location"] == f"{PREFIX}/jobs?kind=knn"
    evil = browser.post(f"/jobs/{job_id}/retry", data=form.fields | {"next": "/../other"})
    assert evil.headers["Location"].startswith(f"{PREFIX}/jobs/")
    signed_out = browser.post("/sign-out", data=form.fields)
    assert signed_out.headers["Location"] == f"{PREFIX}/sign-in"


def test_addresses_in_the_api_have_the_prefix(proxied: Flask) -> None:
    services: Services = get_context(proxied).services
    client, headers = proxied.test_client(), make_auth_headers(proxied, "ada") | FORWARDED
    submitted = client.post("/api/v1/jobs", json={"kind": "knn", "device": "cpu"}, headers=headers)
    assert submitted.json is not None
    job_id = submitted.json["id"]
    assert submitted.headers["Location"] == f"{PREFIX}/api/v1/jobs/{job_id}"
    succeed(services, job_id, {}, {"a.txt": ("text/plain", b"a"), "b.txt": ("text/plain", b"b")})
    job = client.get(f"/api/v1/jobs/{job_id}", headers=headers).json
    assert job is not None
    files = f"{PREFIX}/api/v1/jobs/{job_id}/artifacts"
    assert [artifact["url"] for artifact in job["artifacts"]] == [f"{files}/a.txt", f"{files}/b.txt"]
    for own, root in ((FORWARDED, PREFIX), ({"Host": "localhost"}, "/")):
        document = client.get("/api/v1/openapi.json", headers=headers | {"X-Forwarded-Prefix": ""} | own).json
        assert document is not None
        assert document["servers"] == [{"url": root}]
        assert "/api/v1/jobs" in document["paths"]
    assert f"<code>https://{HOST}{PREFIX}</code>" in client.get("/api/v1/docs", headers=headers).text


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": f"https://{HOST}:8443"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_other_sites_are_refused_behind_a_proxy(proxied: Flask, headers: dict[str, str]) -> None:
    browser = sign_in(proxied)
    form = Page(browser.get("/knn").text).find_form(f"{PREFIX}/knn")
    assert browser.post("/knn", data=form.fields, headers=headers).status_code == HTTPStatus.FORBIDDEN
    refused = browser.post("/knn", data=form.fields, headers={"Referer": "https://evil.example/"})
    assert refused.status_code == HTTPStatus.BAD_REQUEST


def test_sign_in_attempts_are_counted_by_the_address_of_the_client(proxied: Flask) -> None:
    make_auth_headers(proxied, "ada")

    def try_key(number: int, client: str) -> int:
        browser = Browser(proxied)
        browser.forwarded_for = f"192.0.2.{number}, {client}"  # the client itself sent the first address
        form = Page(browser.get("/sign-in").text).find_form(None)
        return browser.post("/sign-in", data=form.fields | {"key": f"mj_{number}"}).status_code

    attempts = [try_key(number, "203.0.113.7") for number in range(11)]
    assert attempts == [HTTPStatus.UNAUTHORIZED] * 10 + [HTTPStatus.TOO_MANY_REQUESTS]
    assert try_key(12, "203.0.113.8") == HTTPStatus.UNAUTHORIZED


def test_log_lines_name_the_address_of_the_client(
    capsys: pytest.CaptureFixture[str], make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise ZeroDivisionError

    app = make_app(**BEHIND_A_PROXY)
    monkeypatch.setitem(app.view_functions, "health.alive", fail)
    headers = FORWARDED | {"X-Forwarded-For": "192.0.2.66, 203.0.113.7"}
    assert app.test_client().get("/healthz", headers=headers).status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert line.endswith(" client=203.0.113.7")


@contextmanager
def connect(port: int) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)) as connection:
        yield connection


def send_raw(port: int, *lines: str) -> str:
    """Send a GET request with exactly these lines, and return the response."""
    with connect(port) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode("latin-1")


FORGED = ("X_Forwarded_For: 192.0.2.66", "SCRIPT_NAME: /evil", "Script-Name: /evil", "PATH_INFO: /healthz")


def test_server_passes_on_the_headers_of_proxies(serve_web: ServeWeb) -> None:
    """Repeated headers count as one list. Names with underscores do not count, though WSGI cannot tell them apart."""
    web, settings = serve_web(**BEHIND_A_PROXY, redis_url="unix:///nowhere/redis.sock", web_processes=1)
    response = send_raw(
        settings.port,
        "GET /readyz HTTP/1.1",
        "Host: 127.0.0.1",
        "X-Forwarded-For: 192.0.2.66",
        "X-Forwarded-For: 203.0.113.7",
        *FORGED,
    )
    assert " 503 " in response.partition("\r\n")[0], response
    wait_until(lambda: "not ready: the broker" in web.read_log(), "the log line")
    (line,) = [line for line in web.read_log().splitlines() if "not ready: the broker" in line]
    assert line.endswith(" client=203.0.113.7")
    headers = ("X-Forwarded-Proto: http", "X-Forwarded-Proto: https", f"X-Forwarded-Prefix: {PREFIX}")
    response = send_raw(settings.port, "GET /jobs HTTP/1.1", "Host: 127.0.0.1", "Accept: text/html", *headers, *FORGED)
    assert f"\r\nlocation: {PREFIX.lower()}/sign-in?next=/jobs\r\n" in response.lower()
    response = send_raw(settings.port, "GET /sign-in HTTP/1.1", "Host: 127.0.0.1", *headers, *FORGED)
    (cookie,) = [line for line in response.split("\r\n") if line.lower().startswith("set-cookie")]
    assert "Secure" in cookie
    assert f"Path={PREFIX}" in cookie


def test_server_believes_no_proxy_by_itself(serve_web: ServeWeb) -> None:
    _, settings = serve_web()
    headers = ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl", *FORGED)
    response = send_raw(settings.port, "GET /sign-in HTTP/1.1", "Host: 127.0.0.1", *headers)
    assert " 200 " in response.partition("\r\n")[0], response
    (cookie,) = [line for line in response.split("\r\n") if line.lower().startswith("set-cookie")]
    assert "Secure" not in cookie
    assert "/evil" not in response
