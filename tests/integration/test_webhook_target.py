"""The request to a webhook's endpoint, on loopback: address, time limit and TLS certificate."""

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from http.client import BadStatusLine
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import NewConnectionError
from urllib3.util.ssl_match_hostname import CertificateError

from shared.webhooks import http_post, target
from tests.support.webhook_receiver import Receiver


def post(url: str) -> int:
    return http_post.post(target.resolve_target(url, private=True), b"{}", {"webhook-id": "1"}, 1)


def test_request_goes_to_the_address_that_was_checked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = socket.getaddrinfo, []

    def look_up(host: str, port: int, *others: int, **named: int) -> list[Any]:
        asked.append(host)
        return list(real("127.0.0.1" if host == "hooks.example" else host, port, *others, **named))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert post(f"http://hooks.example:{receiver.port}/204?q=1") == 204
    assert asked.count("hooks.example") == 1
    (request,) = receiver.received
    assert (request.path, request.body, request.headers["webhook-id"]) == ("/204?q=1", b"{}", "1")
    assert request.headers["Host"] == f"hooks.example:{receiver.port}"


def test_each_attempt_uses_the_next_address(receiver: Receiver) -> None:
    endpoint = target.WebhookTarget("http", "here", "here", receiver.port, "/", ("127.0.0.1", "127.0.0.9"))
    assert http_post.post(endpoint, b"", {}, 1) == 200
    with pytest.raises(NewConnectionError, match="refused"):
        http_post.post(endpoint, b"", {}, 2)
    assert http_post.post(endpoint, b"", {}, 3) == 200


def test_request_is_aborted_after_the_time_limit_if_the_response_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 5.0)
    left = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the client may have closed the connection
            connection.sendall(b"HTTP/1.")
            while not left.wait(0.05):
                connection.sendall(b"1")  # each single read receives a byte before its time limit

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        try:
            with pytest.raises(BadStatusLine):
                post(f"http://127.0.0.1:{server.getsockname()[1]}/")
        finally:
            left.set()
            thread.join()


@pytest.fixture
def certificate(tmp_path: Path, receiver: Receiver) -> Path:
    """Make the endpoint use TLS with a self-signed certificate for localhost; return the path of the certificate."""
    openssl = shutil.which("openssl")
    assert openssl, "the openssl program makes this test's certificate; install it"
    file = tmp_path / "localhost.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key = tmp_path / "localhost.key"
    subprocess.run([*command, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    return file


def test_certificate_must_be_trusted_and_match_the_host_name(
    receiver: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        post(f"https://localhost:{receiver.port}/200")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(CertificateError, match="doesn't match"):
        post(f"https://127.0.0.1:{receiver.port}/200")
    assert receiver.received == []
    assert post(f"https://localhost:{receiver.port}/200") == 200
    assert [request.headers["Host"] for request in receiver.received] == [f"localhost:{receiver.port}"]
