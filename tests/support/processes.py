"""Processes of the service that a test starts and ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.support.waiting import DEADLINE_S, wait_until


def make_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables with which ``load_settings`` returns these settings."""
    names = {name: value for name, value in settings.model_dump().items() if value is not None}
    own = {f"MINDJOBS_{name.upper()}": str(value) for name, value in names.items()}
    return {name: value for name, value in os.environ.items() if not name.startswith("MINDJOBS_")} | own


class ServiceProcess:
    """A process and all processes below it; ``close`` ends all of them.

    Parameters
    ----------
    module, arguments
        What ``program`` runs: without ``program``, a module of Python.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        settings: Settings,
        log: Path,
        folder: Path = ROOT,
        program: Sequence[str] = (sys.executable, "-m"),
    ) -> None:
        self._log = log.open("ab")
        self.log_path = log
        self.process = subprocess.Popen(
            [*program, module, *arguments],
            cwd=folder,
            env=make_environment(settings),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._seen: set[psutil.Process] = set()

    def list_children(self) -> list[psutil.Process]:
        """List every process below this one, at any depth."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen.update(children)
        return children

    def signal(self, number: int) -> None:
        """Send a signal to the process, but not to the processes below it."""
        self.list_children()
        self.process.send_signal(number)

    def kill_group(self) -> None:
        """Kill all processes of the process group at once."""
        self.list_children()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> int:
        """Wait until the process has ended, and return its exit status."""
        return self.process.wait(DEADLINE_S)

    def listens_at(self, port: int) -> bool:
        """Return whether the process or a process below it listens at a TCP port."""
        for process in [psutil.Process(self.process.pid), *self.list_children()]:
            with contextlib.suppress(psutil.NoSuchProcess):  # the process has just ended
                if any(
                    connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                    for connection in process.net_connections("tcp")
                ):
                    return True
        return False

    def read_log(self) -> str:
        """Return everything that the process has printed so far."""
        return self.log_path.read_text(errors="replace")

    def list_survivors(self) -> list[psutil.Process]:
        """List the known processes below this one that still run."""
        return [child for child in self._seen if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    def close(self) -> None:
        """End all processes, even if some of them are suspended (SIGSTOP) or have ended already.

        A parent is suspended before its children are killed; otherwise, the parent would start new children.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            self.list_children()
            self.process.kill()
        self.process.wait()
        self._log.close()
        wait_until(self._kill_survivors, f"the processes that {self.process.args!r} has started to end")

    def _kill_survivors(self) -> bool:
        """Kill the known processes that still run, and add their children to the known processes.

        All of them are suspended before the first is killed; otherwise, a parent such as Supervisor could replace a
        killed child while it is not known yet.

        Returns
        -------
        Whether no known process was still running.
        """
        survivors = self.list_survivors()
        for process in survivors:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in survivors:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.update(process.children(recursive=True))
                process.kill()
        return not survivors
