"""Supervisor starts the processes of an instance, restarts processes that die, and stops processes by priority."""

import os
import signal
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

from shared.database.migrate import ROOT
from shared.errors import InstanceLostError
from shared.instance.processes import Process
from shared.settings import Settings
from shared.texts import text


def write_configuration(settings: Settings, processes: list[Process]) -> Path:
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
            # Restart the process without limit, with a delay that grows by a second each time: the database or another
            # service that the process needs may respond again later.
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


def _quote(word: str) -> str:
    """Quote a word of a command line for Supervisor, which splits command lines like a shell."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def run_supervisor(configuration: Path, lock: int) -> int:
    """Run Supervisor until it ends. If this process receives a signal to stop, it stops Supervisor.

    For each process of the instance, Supervisor opens its own standard output by the file name ``/dev/fd/1``. That
    works if the output of Supervisor is a pipe, but not with every output that this process may have. So Supervisor
    gets a pipe as its output, and this process copies everything from the pipe to its own output.

    If this process is killed, the kernel kills Supervisor, and with it every process of the instance.

    Returns
    -------
    The exit status of Supervisor; 0 if this process received a signal to stop.

    Raises
    ------
    InstanceLostError
        Supervisor was ended by a signal that this process has not passed on.
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "shared.instance.supervisord", str(os.getpid()), "-n", "-c", str(configuration)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # this process passes Ctrl-C in a terminal on to Supervisor
        pass_fds=[lock],  # the state folder stays locked while one of the two processes runs
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
            except OSError:  # the output is closed, for example because its terminal was closed
                supervisor.send_signal(signal.SIGTERM)
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if stop_signals:
        return 0
    if supervisor.returncode < 0:
        raise InstanceLostError(text("supervisor-lost", signal=signal.Signals(-supervisor.returncode).name))
    return supervisor.returncode
