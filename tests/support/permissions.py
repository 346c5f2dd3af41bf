"""What other users of the machine may read."""

import re
import stat
from pathlib import Path

import psutil

from tests.support.processes import ServiceProcess

PRIVATE_UMASK = 0o077


def list_umasks(process: ServiceProcess) -> list[int]:
    """List the umasks of a process and of all processes below it."""
    every = [psutil.Process(process.process.pid), *process.list_children()]
    status = [Path(f"/proc/{one.pid}/status").read_text() for one in every]
    return [int(re.findall(r"^Umask:\s*(\d+)$", text, re.MULTILINE)[0], 8) for text in status]


def find_readable(folder: Path) -> list[Path]:
    """List everything in a folder, and the folder itself, that other users may read or write."""
    return [path for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & PRIVATE_UMASK]
