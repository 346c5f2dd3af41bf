"""A Redis that needs a password, which may contain any character and appears in no log."""

from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from shared.jobs import State
from shared.services import Services
from shared.settings import Settings
from tests.integration.conftest import Gate, ServeWeb, StartProcess, StartWorker
from tests.support.auth_headers import make_auth_headers
from tests.support.instances import ask
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

# The tests of this module do not depend on the database, so they run on SQLite only.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PASSWORD = "p@ss/w:ö rd#%&?+'\"$"  # noqa: S105 - of a server that the tests start


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that needs a password."""
    server = RedisServer(tmp_path / "guarded", port=reserve_port(), password=PASSWORD)
    server.start()
    yield server
    server.close()


@pytest.fixture
def guarded_services(
    guarded: RedisServer, settings: Settings, open_services: Callable[[Settings], Services]
) -> Services:
    own = {"redis_url": guarded.url, "log_level": "DEBUG", "port": reserve_port()}
    return open_services(settings.model_copy(update=own))


@pytest.fixture
def processes(
    guarded_services: Services, serve_web: ServeWeb, start_worker: StartWorker, start_process: StartProcess
) -> dict[str, ServiceProcess]:
    """A process of each kind, keyed by what it logs while it does not reach Redis."""
    own = guarded_services.settings.model_dump(include={"redis_url", "log_level", "port"})
    return {
        "not ready: the broker does not answer": serve_web(**own)[0],
        "Connection to broker lost": start_worker(**own),
        "the sweep failed": start_process("shared.maintenance", settings=guarded_services.settings),
    }


def logs(process: ServiceProcess, words: str) -> bool:
    return words in process.read_log()


def test_every_process_works_with_a_password_and_none_logs_it(
    guarded: RedisServer, guarded_services: Services, processes: dict[str, ServiceProcess], tmp_path: Path
) -> None:
    first, second = Gate(guarded_services, tmp_path / "first"), Gate(guarded_services, tmp_path / "second")
    first.submit()
    first.open()
    first.wait_for(State.SUCCEEDED)

    guarded.stop()
    assert ask(guarded_services.settings.port, "/readyz") == HTTPStatus.SERVICE_UNAVAILABLE
    second.submit()
    second.open()
    for words, process in processes.items():
        wait_until(partial(logs, process, words), words)
    guarded.start()
    second.wait_for(State.SUCCEEDED)
    for process in processes.values():
        for secret in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "p@ss", "p%40ss"):
            assert secret not in process.read_log()


def test_requests_are_counted_in_a_redis_with_a_password(guarded: RedisServer, settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"redis_url": guarded.url}))
    ada = make_auth_headers(app, "ada")
    assert app.test_client().get("/api/v1/devices", headers=ada).status_code == HTTPStatus.OK
    with Redis.from_url(guarded.url) as client:
        assert [key for key in client.scan_iter() if b"LIMITS" in key]
    get_context(app).services.close()


def test_wrong_password_makes_the_web_not_ready(
    guarded: RedisServer, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = guarded.url.replace("p%40ss", "hidden")
    app = create_app(settings.model_copy(update={"redis_url": wrong, "log_level": "DEBUG"}))
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.json) == (503, {"status": "not ready", "unreachable": ["broker"]})
    log = capsys.readouterr().err
    assert "invalid username-password pair" in log
    assert "hidden" not in log
    get_context(app).services.close()
