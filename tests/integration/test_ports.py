"""The ports of the tests' own servers: no other process gets them, and no other server is taken for a test's own."""

import random
from collections.abc import Sequence

import pytest

from shared.settings import Settings
from tests.integration.conftest import StartProcess
from tests.support.instances import WEB, wait_for_web
from tests.support.ports import reserve_port
from tests.support.scripted_server import Answer, ScriptedServer


def test_a_reserved_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    port = reserve_port()

    def choose(ports: Sequence[int], _: int) -> list[int]:
        assert port in ports
        return [port]

    monkeypatch.setattr(random, "sample", choose)
    with pytest.raises(RuntimeError, match="no port"):
        reserve_port()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_another_server_at_its_port_is_not_taken_for_the_web(settings: Settings, start_process: StartProcess) -> None:
    with ScriptedServer(lambda _: Answer()) as other:  # it answers every request with 200
        taken = settings.model_copy(update={"port": other.port})
        web = start_process(*WEB, settings=taken)
        with pytest.raises(AssertionError, match="in use"):
            wait_for_web(web, taken)
