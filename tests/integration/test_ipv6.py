"""An instance on the loopback address of IPv6."""

import socket
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from requests import get

from shared.client import Client
from shared.settings import Settings
from tests.conftest import SHORT_INTERVALS
from tests.support.instances import make_settings, wait_for_ready
from tests.support.processes import ServiceProcess
from tests.support.waiting import DEADLINE_S


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no loopback address of IPv6")


@pytest.fixture(params=["::1", "[::1]"])
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    with make_settings(host=request.param, **SHORT_INTERVALS) as settings:
        yield settings


@pytest.fixture
def instance(settings: Settings, tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess("shared.instance.up", settings=settings, log=tmp_path / "up.log")
    yield process
    process.close()


@pytest.mark.parametrize("settings", ["::1"], indirect=True)
def test_instance_on_ipv6_loopback_becomes_ready_and_runs_a_job(instance: ServiceProcess, settings: Settings) -> None:
    wait_for_ready(instance, settings)
    address = f"http://[::1]:{settings.port}"
    assert f"READY {address}\n" in instance.read_log()
    for host in (f"[::1]:{settings.port}", "[::1]", f"localhost:{settings.port}"):
        for path in ("/", "/knn", "/readyz"):
            assert get(f"{address}{path}", headers={"Host": host}, timeout=DEADLINE_S).status_code == HTTPStatus.OK
    for host in ("evil.example", f"[::2]:{settings.port}", "[::1]evil.example"):
        refused = get(f"{address}/", headers={"Host": host}, timeout=DEADLINE_S)
        assert refused.status_code == HTTPStatus.BAD_REQUEST, host
    with Client(address) as client:
        job = client.wait(client.submit("knn", {"k": 5}).id)
    assert job.state == "succeeded"


def test_address_may_have_brackets(settings: Settings) -> None:
    assert settings.host == "::1"
    assert settings.on_loopback
    assert settings.authority == f"[::1]:{settings.port}"


@pytest.mark.parametrize("settings", ["::1"], indirect=True)
def test_port_in_use_is_reported_with_its_address(settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("::1", settings.port), family=socket.AF_INET6):
        second = ServiceProcess("shared.instance.up", settings=settings, log=tmp_path / "up.log")
        assert second.wait() == 1
        second.close()
    assert f"cannot listen on [::1]:{settings.port}" in second.read_log()
