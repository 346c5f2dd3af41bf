"""The state folder, which contains the database, files and secret of an instance: nobody else may read it."""

import os
import stat
from typing import Final

from shared.errors import SettingsError
from shared.settings import Settings
from shared.texts import text

PRIVATE_MODE: Final = 0o700
PRIVATE_UMASK: Final = 0o077


def protect_state(settings: Settings) -> None:
    """Let only this user read the state folder, and every file that this process and its children will create.

    Each process of an instance calls this function at its start, since each may be the first, or run alone.

    Raises
    ------
    SettingsError
        The state folder cannot be created.
    """
    os.umask(PRIVATE_UMASK)
    make_state_folder(settings)


def make_state_folder(settings: Settings) -> None:
    """Create the state folder. An existing one is closed to other users if it belongs to this user.

    Raises
    ------
    SettingsError
        The state folder cannot be created.
    """
    try:
        settings.home.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
        status = settings.home.stat()
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & PRIVATE_UMASK:
            settings.home.chmod(PRIVATE_MODE)
    except OSError as error:
        raise SettingsError(text("home-unusable", home=str(settings.home), reason=str(error.strerror))) from error
