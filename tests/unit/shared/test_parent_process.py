"""A process that ends with its parent, even if it never reacts to anything."""

import contextlib
import signal
import subprocess
import sys

import psutil
import pytest

from shared.database.migrate import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

# The child computes without end and ignores what can be ignored. It prints a line when it is bound to its parent.
CHILD = """
import signal, sys
from shared.parent_process import end_with_parent
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
end_with_parent(int(sys.argv[1]))
print("bound", flush=True)
while True:
    pass
"""
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_process_is_killed_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lines = {parent.stdout.readline(), parent.stdout.readline()}
        assert "bound\n" in lines
        (child,) = psutil.Process(parent.pid).children()
        try:
            assert f"{child.pid}\n" in lines
            parent.kill()
            wait_until(lambda: has_ended(child), "the end of the child")
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def test_process_whose_parent_has_ended_before_is_killed_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    command = [sys.executable, "-c", CHILD, str(ended.pid)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
