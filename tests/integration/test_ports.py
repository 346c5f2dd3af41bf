"""Ports for the tests' servers: no other process gets a reserved port, and another server at the port is reported."""

import random
from collections.abc import Sequence

import pytest

from shared.settings import Settings
from tests.integration.conftest import StartProcess
from tests.support.instances import WEB, wait_for_web
from tests.support.ports import reserve_port
from tests.support.scripted_server import Answer, ScriptedServer


def test_a_reserved_port_is_not_returned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    port = reserve_port()

    def choose(ports: Sequence[int], _: int) -> list[int]:
        assert port in ports
        return [port]

    monkeypatch.setattr(random, "sample", choose)
    with pytest.raises(RuntimeError, match="no port"):
        reserve_port()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_another_server_at_the_port_of_the_web_server_is_reported(
    settings: Settings, start_process: StartProcess
) -> None:
    with ScriptedServer(lambda _: Answer()) as other:  # this server answers every request with 200
        taken = settings.model_copy(update={"port": other.port})
        web = start_process(*WEB, settings=taken)
        with pytest.raises(AssertionError, match="in use"):
            wait_for_web(web, taken)
