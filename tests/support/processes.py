"""Processes of the service, started by a test and ended with it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.support.waiting import DEADLINE_S, wait_until


def write_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which ``load_settings`` gives these settings."""
    names = {name: value for name, value in settings.model_dump().items() if value is not None}
    own = {f"MINDJOBS_{name.upper()}": str(value) for name, value in names.items()}
    return {name: value for name, value in os.environ.items() if not name.startswith("MINDJOBS_")} | own


class ServiceProcess:
    """One process and all that it started; ``close`` leaves none of them."""

    def __init__(self, module: str, *arguments: str, settings: Settings, log: Path, folder: Path = ROOT) -> None:
        self._log = log.open("ab")
        self.log_path = log
        command = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=write_environment(settings),
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
        """Send a signal to the process alone."""
        self.list_children()
        self.process.send_signal(number)

    def kill_group(self) -> None:
        """Kill the process and what it started, at once."""
        self.list_children()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(DEADLINE_S)

    def listens_at(self, port: int) -> bool:
        """Tell whether the process, or one that it started, listens at a TCP port."""
        for process in [psutil.Process(self.process.pid), *self.list_children()]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if any(
                    connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                    for connection in process.net_connections("tcp")
                ):
                    return True
        return False

    def read_log(self) -> str:
        """Return what it has printed."""
        return self.log_path.read_text(errors="replace")

    def list_survivors(self) -> list[psutil.Process]:
        """List what it started and what still runs."""
        return [child for child in self._seen if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    def close(self) -> None:
        """End everything, whatever state the test left it in; the parents first, or they would start anew."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            self.list_children()
            self.process.kill()
        self.process.wait()
        self._log.close()
        wait_until(self._kill_survivors, f"the end of what {self.process.args!r} started")

    def _kill_survivors(self) -> bool:
        """Kill what still runs and what that started; tell whether nothing does."""
        survivors = self.list_survivors()
        for process in survivors:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                self._seen.update(process.children(recursive=True))
                process.kill()
        return not survivors
