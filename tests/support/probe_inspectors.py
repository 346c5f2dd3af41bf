"""Inspectors for tests, which report what their process can reach, or misbehave; see `shared.inspection.child`."""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from shared.errors import MindjobsError
from shared.texts import Text, text

MODULE: Final = "tests.support.probe_inspectors"
_LIMITS: Final = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
_CLONE_NEWUSER: Final = 0x1000_0000


def report(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Report the content of the file, and everything that a process inherits or may do."""
    return {
        "content": path.read_text(),
        "environment": dict(os.environ),
        "descriptors": {number: _describe(number) for number in range(64) if _describe(number)},
        "writable": [number for number in range(3) if _try(partial(os.write, number, b"")) == "done"],
        "limits": {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in _LIMITS},
        "niceness": os.nice(0),
        "cpus": len(os.sched_getaffinity(0)),
        "no_new_privs": ctypes.CDLL(None).prctl(39, 0, 0, 0, 0),
        "seccomp": ctypes.CDLL(None).prctl(21, 0, 0, 0, 0),
        "session": os.getsid(0) == os.getpid(),
        "tried": {name: _try(act) for name, act in _list_acts(options).items()},
    }


def _list_acts(options: dict[str, Any]) -> dict[str, Callable[[], object]]:
    file = options.get("file", "/")
    parent = os.getppid()
    return {
        "connect": lambda: socket.create_connection(("127.0.0.1", options.get("port", 1)), 1),
        "fork": os.fork,
        "execute": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),  # noqa: S606 - must fail
        "signal": lambda: os.kill(parent, 0),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY)),
        "limit the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1)),
        "new namespace": lambda: _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER)),
        "read": lambda: Path(file).read_bytes(),
        "delete": lambda: Path(file).unlink(),
        "create": lambda: Path(f"{file}.new").touch(),
        "truncate": lambda: os.truncate(file, 0),
        "write": lambda: Path(file).open("r+b"),
        "change the mode": lambda: Path(file).chmod(0),
        "change the time": lambda: os.utime(file, (0, 0)),
        "rename": lambda: Path(file).rename(f"{file}.new"),
        "link": lambda: Path(f"{file}.new").hardlink_to(file),
        "environment of the parent": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "thread": lambda: threading.Thread(target=int).start(),
        "import": lambda: __import__("xml.dom.minidom"),
    }


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "")


def _try(act: Callable[[], object]) -> str:
    try:
        act()
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "done"


def _describe(number: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


def refuse(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Refuse the file."""
    raise MindjobsError(text("upload-empty"))


def refuse_places(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Refuse the file because of two of its lines."""
    places = tuple(text("line-nul", line=line) for line in (3, 5))
    raise MindjobsError(Text("bad-cells", {"count": 2}, places))


def fail(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Fail as a program with a defect does."""
    raise ZeroDivisionError


def take_memory(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Take memory without end."""
    blocks = []
    while True:
        blocks.append(bytearray(2**24))


def share_memory(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Take shared memory without end, which does not count as data of a process."""
    blocks = []
    while True:
        blocks.append(mmap.mmap(-1, 2**24))


def compute(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Compute without end, and ignore the signal that the time is up."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


def compute_politely(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Compute without end."""
    while True:
        pass


def wait(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Wait without end, while the answer is being read."""
    os.write(1, json.dumps({"started": options, "bytes": path.stat().st_size})[:1].encode())
    while True:
        time.sleep(60)


def crash(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """End as a decoder does that a damaged file has led astray."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def make_bytes(_path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return facts and bytes, of any value."""
    return {"n": options["count"]}, bytes(range(256)) * options["count"]


def start_threads(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Start threads until there can be no more."""
    count = 0
    try:
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            count += 1
    except RuntimeError:
        return {"threads": count}


def fork_bomb(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Start processes until there can be no more, by every call that starts one."""
    library = ctypes.CDLL(None, use_errno=True)
    for start in (os.fork, library.vfork, lambda: library.syscall(435, b"\0" * 88, 88)):
        try:
            if start() >= 0:
                return {"started": True}
        except OSError:
            continue
    return {"started": False}


def fill_disk(_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Write files without end, wherever that is possible."""
    folders = [options["folder"], "/tmp", "/dev/shm", "/var/tmp"]  # noqa: S108 - these must be refused
    written = 0
    for folder in folders:
        try:
            with Path(folder, "mindjobs-bomb").open("wb") as file:
                while True:
                    written += file.write(bytes(2**20))
        except OSError:
            continue
    hidden = os.memfd_create("bomb")
    try:
        written += os.write(hidden, bytes(2**20))
    except OSError:
        return {"written": written}
    return {"written": written}


def die(_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """End by a signal."""
    os.kill(os.getpid(), options["signal"])
    raise AssertionError


def leave(_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """End without an answer."""
    os._exit(options["status"])


def write(_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Write anything as the answer."""
    os.write(1, options["answer"].encode())
    os._exit(0)


def flood(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Write an answer without end."""
    while True:
        os.write(1, bytes(2**16))


def close_and_stay(_path: Path, _options: dict[str, Any]) -> dict[str, Any]:
    """Answer, and do not end."""
    os.write(1, b'{"facts": {}, "refused": []}')
    os.close(1)
    while True:
        time.sleep(60)


def tell(_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Tell facts that a database may not be able to store."""
    return dict(options["facts"])


def measure(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Tell the size of the file and the options, or wait without end if its content says so."""
    content = path.read_bytes()
    if content.startswith(b"refuse"):
        raise MindjobsError(text("upload-empty"))
    while content.startswith(b"wait"):
        time.sleep(60)
    return {"bytes": len(content), "process": os.getpid(), "options": options}
