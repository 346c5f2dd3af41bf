"""The instance under test, with its servers, in temporary folders."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from shared.api_keys import create_key
from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.files.file_store import FileStore
from shared.files.registry import open_file_store
from shared.instance.processes import list_processes
from shared.settings import Settings
from tests.support.instances import find_program, read_command, start_by_make
from tests.support.network import Network, make_network
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import wait_until

SETTINGS: Final[dict[str, Any]] = {"requests_per_minute": 1_000_000}
"""What differs from the defaults: the intervals and time limits are those of production."""
FILES_MB: Final = 8_192
"""The size of the disk for files. It takes memory only for what is stored."""
REDIS_PASSWORD: Final = "campaign"  # noqa: S105 - of a server that ends with the campaign
FIND_DEADLINE_S: Final = 120.0


@dataclass(frozen=True)
class Surroundings:
    """What an instance under test uses.

    Parameters
    ----------
    redis
        A Redis server that does not belong to the instance; ``None`` if the instance runs its own.
    network
        The network namespace of the instance; ``None`` if the instance runs on loopback.
    files_disk
        Where the disk for files is mounted; ``None`` if this machine cannot mount one.
    key
        The API key that the instance needs; ``None`` if it needs none.
    logs
        The folder for the logs of the instance.
    """

    settings: Settings
    postgres: PostgresServer
    redis: RedisServer | None
    network: Network | None
    files_disk: Path | None
    key: str | None
    logs: Path


class Site:
    """An instance that is started by ``make up``."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.settings = surroundings.settings
        self.surroundings = surroundings
        self.database = Database(self.settings.database)
        self.files: FileStore = open_file_store(self.settings.storage)
        self._ended: list[ServiceProcess] = []
        self.instance = self._start()

    def restart(self) -> None:
        """Start the next instance at once, after a process above the instance's processes was killed."""
        self._ended.append(self.instance)
        self.instance = self._start()

    def list_orphans(self) -> list[str]:
        """List the processes of earlier instances that still run."""
        return [
            " ".join(read_command(process)) or str(process.pid)
            for instance in self._ended
            for process in instance.list_survivors()
        ]

    def find(self, name: str) -> list[psutil.Process]:
        """Find the processes of a program by the name that Supervisor gave it, the uppermost first; wait for them."""
        return wait_until(lambda: find_program(self.instance, name), f"the program {name}", FIND_DEADLINE_S)

    def find_children(self, name: str) -> list[psutil.Process]:
        """Find the processes that the uppermost process of a program has started; wait until there is one."""

        def look() -> list[psutil.Process]:
            try:
                return self.find(name)[0].children()
            except psutil.NoSuchProcess:  # it has just ended
                return []

        return wait_until(look, f"the children of {name}", FIND_DEADLINE_S)

    def find_module(self, module: str) -> psutil.Process:
        """Find the process that runs a module of the instance itself, such as ``shared.instance.up``."""

        def look() -> psutil.Process | None:
            found = [process for process in self.instance.list_children() if module in read_command(process)]
            return found[0] if found else None

        found = wait_until(look, f"the process of {module}", FIND_DEADLINE_S)
        assert found is not None
        return found

    def list_missing(self) -> list[str]:
        """List the programs of the instance that do not run."""
        names = [process.name for process in list_processes(self.settings) if not process.once]
        return [name for name in names if not find_program(self.instance, name)]

    def list_suspended(self) -> list[str]:
        """List the processes of the instance that are suspended."""
        found = []
        for process in self.instance.list_children():
            with suppress(psutil.NoSuchProcess):  # it has just ended
                if process.status() == psutil.STATUS_STOPPED:
                    found.append(" ".join(read_command(process)))
        return found

    def close(self) -> None:
        """End all processes of all instances."""
        self.instance.close()
        for instance in self._ended:
            instance.close()
        self.database.close()

    def _start(self) -> ServiceProcess:
        network = self.surroundings.network
        log = self.surroundings.logs / f"up-{len(self._ended)}.log"
        return start_by_make(self.settings, log, within=network.program if network is not None else ())


@contextmanager
def open_site(folder: Path, logs: Path, *, is_remote: bool) -> Iterator[Site]:
    """Run an instance while the block runs.

    Parameters
    ----------
    folder
        A new folder for the instance and its servers. PostgreSQL must be able to reach it as another user.
    logs
        The folder for the logs of the instance.
    is_remote
        Whether the instance runs in a network namespace, so that the packets between it and its PostgreSQL, its Redis
        and its clients can be dropped.
    """
    folder.mkdir()
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        network = stack.enter_context(make_network()) if is_remote else None
        postgres = stack.enter_context(closing(PostgresServer(folder / "postgres", durable=True)))
        name, database_url = postgres.make_database()
        redis = None
        if network is not None:
            postgres.listen(network.host)
            database_url = f"postgresql://postgres@{network.host}:5432/{name}"
            redis = RedisServer(folder / "redis", port=reserve_port(), password=REDIS_PASSWORD)
            stack.enter_context(closing(redis)).start()
        files_disk = stack.enter_context(_mount_disk(folder / "files")) if os.geteuid() == 0 else None
        settings = Settings(
            home=folder / "state",
            host=network.inside if network is not None else "127.0.0.1",
            port=reserve_port(),
            database_url=database_url,
            redis_url=redis.url.replace("127.0.0.1", network.host) if network is not None and redis is not None else "",
            storage_url=f"file://{files_disk or folder / 'state' / 'files'}",
            _env_file=None,
            **SETTINGS,
        )
        key = _make_key(settings) if network is not None else None
        yield stack.enter_context(
            closing(Site(Surroundings(settings, postgres, redis, network, files_disk, key, logs)))
        )


def _make_key(settings: Settings) -> str:
    """Make an API key, which an instance needs that does not run on loopback."""
    with closing(Database(settings.database)) as database:
        migrate(database)
        return create_key(database, "campaign")


@contextmanager
def _mount_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    options = f"size={FILES_MB}m,mode=700"
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "mindjobs-faults", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)
