"""The free space on the disks that an instance writes to."""

import shutil
from pathlib import Path
from typing import Final

from shared.errors import DiskFullError
from shared.files.file_store import FileStore
from shared.settings import Settings

_MB: Final = 10**6


def measure_free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder, or that will hold it when it is created."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def has_free_space(settings: Settings, files: FileStore) -> bool:
    """Return whether there is enough free space for jobs and files; see the setting ``min_free_mb``."""
    measured = (measure_free_bytes(settings.home), files.free_bytes())
    return all(free is None or free >= settings.min_free_mb * _MB for free in measured)


def require_free_space(settings: Settings, files: FileStore) -> None:
    """Refuse what would need space on a disk.

    Raises
    ------
    DiskFullError
        There is too little free space.
    """
    if not has_free_space(settings, files):
        raise DiskFullError(settings.storage)
