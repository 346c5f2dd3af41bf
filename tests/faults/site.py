"""The instance under test, with its servers, in temporary folders."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from shared.database.connection import Database
from shared.files.file_store import FileStore
from shared.files.registry import open_file_store
from shared.instance.processes import list_processes
from shared.settings import Settings
from tests.support.instances import find_program, read_command, start_by_make
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

SETTINGS: Final[dict[str, Any]] = {"requests_per_minute": 1_000_000}
"""What differs from the defaults: the intervals and time limits are those of production."""
FILES_MB: Final = 8_192
"""The size of the disk for files. It takes memory only for what is stored."""
FIND_DEADLINE_S: Final = 120.0


class Site:
    """An instance that is started by ``make up``, a PostgreSQL server, and a disk for files.

    Parameters
    ----------
    files_disk
        Where the disk for files is mounted; ``None`` if this machine cannot mount one.
    logs
        The folder for the logs of the instance.
    """

    def __init__(self, settings: Settings, postgres: PostgresServer, files_disk: Path | None, logs: Path) -> None:
        self.settings = settings
        self.postgres = postgres
        self.files_disk = files_disk
        self.database = Database(settings.database)
        self.files: FileStore = open_file_store(settings.storage)
        self._logs = logs
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

    def close(self) -> None:
        """End all processes of all instances."""
        self.instance.close()
        for instance in self._ended:
            instance.close()
        self.database.close()

    def _start(self) -> ServiceProcess:
        return start_by_make(self.settings, self._logs / f"up-{len(self._ended)}.log")


@contextmanager
def open_site(logs: Path) -> Iterator[Site]:
    """Run an instance while the block runs."""
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-faults-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # PostgreSQL runs as another user if this is root
        postgres = stack.enter_context(closing(PostgresServer(folder / "postgres", durable=True)))
        home = folder / "state"
        files_disk = stack.enter_context(_mount_disk(folder / "files")) if os.geteuid() == 0 else None
        settings = Settings(
            home=home,
            port=reserve_port(),
            database_url=postgres.make_database()[1],
            storage_url=f"file://{files_disk or home / 'files'}",
            _env_file=None,
            **SETTINGS,
        )
        yield stack.enter_context(closing(Site(settings, postgres, files_disk, logs)))


@contextmanager
def _mount_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    options = f"size={FILES_MB}m,mode=700"
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "mindjobs-faults", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)
