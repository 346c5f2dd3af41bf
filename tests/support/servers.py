"""Real Redis and PostgreSQL servers for the tests; each server has a folder of its own."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psutil
from redis import Redis
from redis.exceptions import RedisError

from shared.instance.redis_server import find_redis
from tests.support.waiting import DEADLINE_S, wait_until


class RedisServer:
    """A redis-server that can be killed and started again; its data is kept in an append-only file.

    Parameters
    ----------
    folder
        Where the server keeps its data.
    port, password
        A port on loopback and the password that every client needs. Without them, the server listens at a Unix socket.
    """

    def __init__(self, folder: Path, *, port: int = 0, password: str = "") -> None:
        self._folder = folder
        self._options = ["--port", str(port), "--requirepass", password]
        # The path of a socket must be short, and the path of a test's folder can be too long.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="mj-redis-")
        self.socket = Path(self._socket_folder.name) / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        if port:
            self.url = f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [find_redis(), *self._options, "--appendonly", "yes", "--save", "", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self._folder), "--logfile", str(self._folder / "redis.log")]
        self._process = subprocess.Popen(command)
        wait_until(self.answers, "Redis")

    def stop(self) -> None:
        """Kill the server, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def flush(self) -> None:
        """Delete all data in the server."""
        with Redis.from_url(self.url) as client:
            client.flushall()

    def close(self) -> None:
        """Kill the server and remove the folder of its socket."""
        self.stop()
        self._socket_folder.cleanup()

    def answers(self) -> bool:
        """Return whether the server answers."""
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False


class PostgresServer:
    """A PostgreSQL server that creates databases as copies of another database, for example of a migrated one.

    With ``durable``, a commit waits until its data is on disk, as in production.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        # On import, pgserver puts its lock into the runtime folder of the login session (XDG_RUNTIME_DIR), and warns if
        # there is no such folder.
        lock_folder = folder / "lock"
        lock_folder.mkdir(parents=True, mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(lock_folder)
        import pgserver

        self._server = pgserver.get_server(folder / "data", cleanup_mode="delete")
        if not durable:
            for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
                self._server.psql(statement)
        self._made = 0

    def listen(self, host: str) -> None:
        """Restart the server so that it also listens at an address, where clients need no password."""
        from pgserver._commands import pg_ctl

        with (self._server.pgdata / "pg_hba.conf").open("a") as file:
            file.write("host all all all trust\n")
        socket_folder = self._server.get_postmaster_info().socket_dir
        options = ["-o", f"-h {host} -k {socket_folder}", "-l", str(self._server.log)]
        pg_ctl(["-w", *options, "restart"], pgdata=self._server.pgdata, user=self._server.system_user)
        self.start()

    @property
    def socket(self) -> Path:
        """The Unix socket at which the server listens."""
        info = self._server.get_postmaster_info()
        return Path(info.socket_dir) / f".s.PGSQL.{info.port}"

    def make_database(self, template: str = "template1") -> tuple[str, str]:
        """Create a copy of the database ``template``, and return the name and the address of the copy."""
        self._made += 1
        name = f"test_{os.getpid()}_{self._made}"
        self._server.psql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name, self._server.get_uri(database=name)

    def drop_database(self, name: str) -> None:
        """Remove a database, even if clients are still connected to it."""
        self._server.psql(f"DROP DATABASE {name} WITH (FORCE)")

    def suspend(self) -> None:
        """Suspend all processes of the server, so that it accepts connections and never answers."""
        for process in self._list_processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # the process of a connection that was just closed
                process.suspend()

    def resume(self) -> None:
        """Let the processes of the server continue."""
        for process in self._list_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """Kill all processes of the server, as in a crash, and wait until they have ended."""
        processes = self._list_processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, DEADLINE_S)

    def start(self) -> None:
        """Start the server again after it was killed, and wait until it accepts connections."""

        def look() -> bool:
            try:
                self._server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError):  # its recovery takes longer than pgserver waits
                return False
            return True

        wait_until(look, "PostgreSQL")

    def _list_processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self._server.get_pid())
        return [parent, *parent.children(recursive=True)]

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._server.cleanup()
