"""Real servers for the tests, in folders of their own: Redis and PostgreSQL."""

import os
import subprocess
import tempfile
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from shared.instance.redis_server import find_redis
from tests.support.waiting import wait_until


class RedisServer:
    """A redis-server that can be killed and started again, with its append-only file on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A socket's path must be short, and a test's folder is not.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="mj-redis-")
        self.socket = Path(self._socket_folder.name) / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [find_redis(), "--port", "0", "--appendonly", "yes", "--save", "", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self._folder), "--logfile", str(self._folder / "redis.log")]
        self._process = subprocess.Popen(command)
        wait_until(self.answers, "Redis")

    def stop(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def flush(self) -> None:
        """Forget everything in it."""
        with Redis.from_url(self.url) as client:
            client.flushall()

    def close(self) -> None:
        """Stop it and remove what it left."""
        self.stop()
        self._socket_folder.cleanup()

    def answers(self) -> bool:
        """Tell whether it answers."""
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False


class PostgresServer:
    """A PostgreSQL that hands out fresh databases, copies of one that is migrated.

    ``durable`` makes it wait for the disk, as it does in production.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        # It looks for the folder of its lock while it is imported, and warns where the session has none.
        lock_folder = folder / "lock"
        lock_folder.mkdir(parents=True, mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(lock_folder)
        import pgserver

        self._server = pgserver.get_server(folder / "data", cleanup_mode="delete")
        if not durable:
            for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
                self._server.psql(statement)
        self._made = 0

    def make_database(self, template: str = "template1") -> tuple[str, str]:
        """Make a database and return its name and address."""
        self._made += 1
        name = f"test_{os.getpid()}_{self._made}"
        self._server.psql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name, self._server.get_uri(database=name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self._server.psql(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Stop it and remove its folder."""
        self._server.cleanup()
