"""The free space on the disks that an instance writes to."""

import shutil
from pathlib import Path

from shared.errors import DiskFullError
from shared.files.file_store import FileStore
from shared.settings import Settings


def measure_free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder, or that will hold it when it is created."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_free_space(settings: Settings, files: FileStore) -> None:
    """Refuse what would need space on a disk, if there is less than the setting ``min_free_mb`` requires.

    Raises
    ------
    DiskFullError
        There is too little free space.
    """
    measured = (measure_free_bytes(settings.home), files.free_bytes())
    if any(free is not None and free < settings.min_free_mb * 2**20 for free in measured):
        raise DiskFullError(settings.storage)
