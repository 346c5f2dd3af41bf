"""The configurations and commands in ``docs/deployment.md``, and the proxies that run with them."""

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from shared.database.migrate import ROOT
from tests.support.ports import reserve_port
from tests.support.waiting import wait_until

PAGE: Final = ROOT / "docs/deployment.md"
HOST: Final = "jobs.example.org"
_WEB: Final = "127.0.0.1:8000"
_NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/responses;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""
_CADDY: Final = """\
{{
    admin off
    skip_install_trust
    default_bind 127.0.0.1
    http_port {http_port}
    https_port {port}
    storage file_system {folder}/storage
}}
{site}
"""


@dataclass(frozen=True)
class Front:
    """A proxy in front of the web.

    Parameters
    ----------
    address
        The address of the service in a browser, with the prefix.
    authority
        The certificate of the authority that has signed the certificate of the proxy.
    """

    address: str
    authority: Path


def read_blocks(language: str) -> list[str]:
    """Return the blocks of one language on the page, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def read_commands(title: str) -> str:
    """Return the commands that follow the paragraph that begins with a title."""
    found = re.search(rf"^{title}.*?^```sh\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def find_program(name: str, package: str) -> str:
    """Return the path of a program. If it is missing, skip the test, or fail it in CI, which installs the program."""
    # nginx is in a folder that is not on the PATH of every user.
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: apt-get install {package}")
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


@contextmanager
def run_nginx(folder: Path, web: str, prefix: str, host: str = HOST) -> Iterator[Front]:
    """Run nginx with the configuration on the page, at an unprivileged port and with a certificate of its own."""
    program, port = find_program("nginx", "nginx-light"), reserve_port()
    certificate, key = _make_certificate(folder, host)
    server, below_prefix = read_blocks("nginx")
    if prefix:
        before, location, after = re.split(
            r"^(    location / \{\n.*?^    \}\n)", server, flags=re.MULTILINE | re.DOTALL
        )
        assert "proxy_pass" in location
        server = before + below_prefix + after
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/jobs.example.org/fullchain.pem", str(certificate)),
        ("/etc/ssl/jobs.example.org/privkey.pem", str(key)),
    ):
        assert server.count(old) == 1, old
        server = server.replace(old, new)
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, server=_locate(server, web, host)))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)]
    with _run(command, folder):
        yield _wait_for(Front(f"https://{host}:{port}{prefix}", certificate), host, port)


@contextmanager
def run_caddy(folder: Path, web: str, prefix: str, host: str = HOST) -> Iterator[Front]:
    """Run Caddy with the configuration on the page, at unprivileged ports and with a certificate of its own."""
    program, port = find_program("caddy", "caddy"), reserve_port()
    site = read_blocks("caddyfile")[bool(prefix)]
    assert site.startswith(f"{HOST} {{\n")
    site = _locate(site.replace("{\n", "{\n    tls internal\n", 1), web, host)
    configuration = folder / "Caddyfile"
    configuration.write_text(_CADDY.format(folder=folder, site=site, port=port, http_port=reserve_port()))
    command = [program, "run", "--adapter", "caddyfile", "--config", str(configuration)]
    authority = folder / "storage/pki/authorities/local/root.crt"
    with _run(command, folder):
        wait_until(authority.exists, "the certificate of Caddy")
        yield _wait_for(Front(f"https://{host}:{port}{prefix}", authority), host, port)


def _locate(configuration: str, web: str, host: str) -> str:
    """Replace the address of the web and the name of the host."""
    assert configuration.count(_WEB) == 1
    assert configuration.count(HOST) == 1
    return configuration.replace(_WEB, web).replace(HOST, host)


def _make_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [find_program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@contextmanager
def _run(command: list[str], folder: Path) -> Iterator[None]:
    """Run a proxy, with its own files below the folder, while the block runs."""
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | homes)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(front: Front, host: str, port: int) -> Front:
    """Wait until a proxy accepts connections with its certificate."""
    context = ssl.create_default_context(cafile=front.authority)

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                context.wrap_socket(connection, server_hostname=host).close()
        except OSError:
            return False
        return True

    wait_until(answers, front.address)
    return front


RUN: Final = {"nginx": run_nginx, "caddy": run_caddy}
"""The functions that run a proxy, keyed by the name of its program."""
