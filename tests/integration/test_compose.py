"""docker-compose.yml and the Dockerfile agree with the code in settings, commands, queues and stop signals.

These tests only read the files; they neither need nor start a container engine.
"""

import re
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from shared.database.migrate import ROOT
from shared.installer.environment import PYTHON_VERSIONS
from shared.instance.processes import Process, list_processes
from shared.jobs import DeviceClass, Kind, name_queue
from shared.settings import Settings
from worker.__main__ import list_queues, make_parser

Service = dict[str, Any]
WORKER = ["python", "-m", "worker"]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    loaded: dict[str, Service] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def stages(dockerfile: str) -> dict[str, str]:
    """The instructions of each build stage of the Dockerfile, keyed by the name of the stage."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", dockerfile, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def list_ours(services: dict[str, Service]) -> dict[str, Service]:
    return {name: service for name, service in services.items() if "build" in service}


def list_workers(services: dict[str, Service]) -> dict[str, Service]:
    return {name: service for name, service in services.items() if service.get("command", [])[:3] == WORKER}


@pytest.fixture
def here(settings: Settings) -> dict[str, Process]:
    """The processes of `make up`, keyed by name."""
    return {process.name: process for process in list_processes(settings)}


def test_every_environment_variable_is_a_setting(services: dict[str, Service]) -> None:
    known = {f"MINDJOBS_{name.upper()}" for name in Settings.model_fields} | {"HF_HOME"}
    for name, service in list_ours(services).items():
        assert set(service["environment"]) <= known, name


def test_environment_of_each_service_gives_consistent_settings(
    services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in list_ours(services).values():
        for variable, value in service["environment"].items():
            with_defaults = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?[^}]*\}", "secret", with_defaults))
        settings = Settings(_env_file=None)
        assert settings.database == "postgresql://mindjobs:secret@postgres/mindjobs"
        assert settings.redis == "redis://:secret@redis:6379/0"
        assert not settings.owns_redis
        assert settings.home.as_posix() in settings.storage


def test_hosts_of_the_database_and_redis_are_services(services: dict[str, Service]) -> None:
    for service in list_ours(services).values():
        for variable in ("MINDJOBS_DATABASE_URL", "MINDJOBS_REDIS_URL"):
            assert urlsplit(re.sub(r"\$\{[^}]*\}", "", service["environment"][variable])).hostname in services


def test_services_have_the_same_commands_and_stop_signals_as_the_processes_of_an_instance(
    services: dict[str, Service], here: dict[str, Process]
) -> None:
    for name in ("web", "sweeper"):
        assert [sys.executable, *services[name]["command"][1:]] == list(here[name].command)
    for kind in Kind:
        service = services[f"worker-cpu-{kind}"]
        assert [sys.executable, *service["command"][1:]] == list(here[f"worker-{kind}"].command)
        assert service["stop_signal"] == f"SIG{here[f'worker-{kind}'].stop_signal}"


def test_every_queue_has_a_worker(services: dict[str, Service]) -> None:
    queues: set[str] = set()
    for name, service in list_workers(services).items():
        arguments = make_parser().parse_args(service["command"][3:])
        queues.update(list_queues(arguments.device, arguments.kinds))
        assert service["profiles"] == [arguments.device.device_class], name
        assert "container_name" not in service  # a service with a fixed container name cannot be scaled
        assert "ports" not in service
    assert queues == {name_queue(kind, device) for kind in Kind for device in DeviceClass}


def test_services_start_after_the_migrations(services: dict[str, Service]) -> None:
    assert services["migrate"]["command"] == ["python", "-m", "shared.database.migrate"]
    for name in set(list_ours(services)) - {"migrate"}:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_migrations_are_tried_again_until_the_database_answers(services: dict[str, Service]) -> None:
    assert services["migrate"]["restart"] == "on-failure"
    # The temporary server of PostgreSQL's first start listens at a Unix socket only.
    check = services["postgres"]["healthcheck"]
    assert check["test"] == ["CMD", "pg_isready", "-h", "127.0.0.1", "-d", "mindjobs", "-U", "mindjobs"]
    assert "start_period" in check


def test_redis_stores_messages_on_disk_and_evicts_none(services: dict[str, Service]) -> None:
    command = " ".join(services["redis"]["command"])
    assert re.match(r"redis:[789]\.", services["redis"]["image"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_redis_and_postgres_need_passwords_from_the_environment(services: dict[str, Service]) -> None:
    command, environment = services["redis"]["command"], services["redis"]["environment"]
    assert command[command.index("--requirepass") + 1] == "${REDIS_PASSWORD:?set REDIS_PASSWORD}"
    assert environment == {"REDISCLI_AUTH": "${REDIS_PASSWORD:?set REDIS_PASSWORD}"}
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "-e", "ping"]
    assert services["postgres"]["environment"].items() >= {
        ("POSTGRES_PASSWORD", "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}")
    }


def test_check_of_the_web_asks_whether_it_is_ready(services: dict[str, Service]) -> None:
    kind, python, option, program = services["web"]["healthcheck"]["test"]
    assert (kind, python, option) == ("CMD", "python", "-c")
    compile(program, "healthcheck", "exec")
    port = services["web"]["environment"]["MINDJOBS_PORT"]
    assert f"http://127.0.0.1:{port}/readyz" in program


def test_every_container_has_a_memory_limit_and_no_more_rights_than_it_needs(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "cap_add" not in service
        assert "privileged" not in service
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert service["read_only"] == (name not in {"worker-gpu", "worker-ascend"}), name
        assert "/tmp" in service["tmpfs"], name  # noqa: S108 - the folder in the container
        assert service["restart"] == ("on-failure" if name == "migrate" else "unless-stopped"), name
        # Without capabilities, a container cannot change from root to another user.
        assert "build" in service or service["user"] in {"redis", "postgres"}, name


def test_musicgen_workers_may_use_the_memory_that_their_settings_allow(services: dict[str, Service]) -> None:
    defaults = {name: Settings.model_fields[f"musicgen_{name}_mb"].default for name in ("memory", "cache")}
    for name, service in list_workers(services).items():
        if "musicgen" in service["command"][-1]:
            assert int(service["mem_limit"].removesuffix("g")) * 1024 > sum(defaults.values()), name


def test_images_have_exact_versions(services: dict[str, Service], dockerfile: str) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]
    for image in [*images, *re.findall(r"^FROM (\S+:\S+)", dockerfile, flags=re.MULTILINE)]:
        assert re.search(r":\d+\.\d+(\.\d+)?-", image), image
    assert dockerfile.count("USER mindjobs") == dockerfile.count("CMD ")


def test_images_contain_the_packages_that_their_commands_need(
    services: dict[str, Service], stages: dict[str, str], dockerfile: str
) -> None:
    for name, service in list_ours(services).items():
        stage = stages[service["build"]["target"]]
        module = service["command"][2]
        package = "web" if module == "gunicorn" else module.split(".")[0]
        assert f"COPY {package} {package}" in stage, name
    for stage in ("web", "worker"):
        (lock,) = re.findall(r"--require-hashes --only-binary :all: -r (\S+)", stages[stage])
        names = set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), flags=re.MULTILINE))
        assert {"sqlalchemy", "celery", "psycopg", "redis"} <= names
        assert ("mindspore" in names) == (stage == "worker")
        assert ("flask" in names) == (stage == "web")
        assert "torch" not in names
    assert "COPY migrations migrations" in stages["web"]
    (major, minor), *others = re.findall(r"^FROM python:(\d+)\.(\d+)\.\d+-slim", dockerfile, flags=re.MULTILINE)
    assert not others
    assert (int(major), int(minor)) in PYTHON_VERSIONS
    for copied in re.findall(r"^COPY (.+) \S+$", "\n".join(stages.values()), flags=re.MULTILINE):
        for path in copied.split():
            assert (ROOT / path).exists()
