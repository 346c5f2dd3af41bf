"""What other users of the machine may read."""

import re
import stat
from pathlib import Path

import psutil

from tests.support.processes import ServiceProcess

PRIVATE_UMASK = 0o077


def list_umasks(process: ServiceProcess) -> list[int]:
    """List the umasks of a process and of all processes below it, except those that end meanwhile."""
    every = [psutil.Process(process.process.pid), *process.list_children()]
    masks = [_find_umask(one.pid) for one in every]
    return [mask for mask in masks if mask is not None]


def _find_umask(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    mask = re.search(r"^Umask:\s*(\d+)$", status, re.MULTILINE)  # a process that has ended, but is a zombie, has none
    return int(mask[1], 8) if mask else None


def find_readable(folder: Path) -> list[Path]:
    """List everything in a folder, and the folder itself, that other users may read or write."""
    return [path for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & PRIVATE_UMASK]
