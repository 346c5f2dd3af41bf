"""Fixtures: servers that start once per session; a fresh database, an empty Redis and a state folder for each test.

Modules that only some tests need are imported inside the fixtures, so that the other tests start quickly.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.services import Services
from shared.settings import Settings
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import DEADLINE_S

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

SHORT_INTERVALS: Final[dict[str, Any]] = {
    "heartbeat_s": 0.2,
    "sweep_s": 0.2,
    "retry_delay_s": 0.1,
    # On a slow and busy machine, nothing may expire by accident. A test that needs an expiry causes it explicitly.
    "lease_s": DEADLINE_S,
    "grace_s": DEADLINE_S,
    "stall_s": DEADLINE_S,
    "worker_heartbeat_s": DEADLINE_S,
}
"""Short intervals of the actions that tests wait for, and long times until something counts as lost."""


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="mj-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a migrated, empty SQLite database."""
    file = tmp_path_factory.mktemp("template") / "template.sqlite"
    database = Database(f"sqlite:///{file}")
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return file.read_bytes()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """The name of a migrated, empty PostgreSQL database."""
    name, url = postgres_server.make_database()
    database = Database(url)
    migrate(database)
    database.close()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a fresh, migrated database; every test with this fixture runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        file = tmp_path / "mindjobs.sqlite"
        file.write_bytes(request.getfixturevalue("migrated_sqlite"))
        yield f"sqlite:///{file}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name, url = server.make_database(template=request.getfixturevalue("migrated_postgres"))
    yield url
    server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables; every test with this fixture runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name, url = server.make_database()
    yield url
    server.drop_database(name)


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a fresh instance."""
    monkeypatch.chdir(tmp_path)  # so that a developer's .env is not read
    redis_server.flush()
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        redis_url=redis_server.url,
        **SHORT_INTERVALS,
    )


@pytest.fixture
def open_services() -> Iterator[Callable[[Settings], Services]]:
    """Return a function that opens services; all opened services are closed after the test."""
    opened: list[Services] = []

    def open_them(settings: Settings) -> Services:
        opened.append(Services.open(settings))
        return opened[-1]

    yield open_them
    for services in opened:
        services.close()


@pytest.fixture
def services(settings: Settings, open_services: Callable[[Settings], Services]) -> Services:
    return open_services(settings)


@pytest.fixture
def app(settings: Settings) -> "Iterator[Flask]":
    """The web application, whose uploads are inspected.

    After the test, it is checked that the OpenAPI document describes every response that the API sent.
    """
    from tests.support.inspections import UploadInspections
    from tests.support.openapi_watch import watch_responses
    from web import create_app
    from web.context import get_context

    app = create_app(settings)
    undescribed = watch_responses(app)
    uploads = UploadInspections(app, settings)
    yield app
    uploads.close()
    get_context(app).services.close()
    assert undescribed == [], "responses that web/openapi does not describe"


@pytest.fixture
def client(app: "Flask") -> "FlaskClient":
    return app.test_client()
