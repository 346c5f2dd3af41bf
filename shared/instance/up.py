"""Run every process of this instance in the foreground: ``python -m shared.instance.up``, which is ``make up``.

This module checks the settings, the lock of the state folder and the port before the start, and migrates the database.
`processes` lists the processes, and `supervisor` runs them.
"""

import argparse
import fcntl
import os
import socket
import sys

from sqlalchemy.exc import SQLAlchemyError

from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.errors import MindjobsError, SettingsError
from shared.instance.processes import list_processes
from shared.instance.supervisor import run_supervisor, write_configuration
from shared.parent_process import end_with_parent
from shared.settings import Settings, load_settings
from shared.state_folder import protect_state
from shared.texts import text


def _lock(settings: Settings) -> int:
    """Lock the state folder while the returned file descriptor is open."""
    handle = os.open(settings.home / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SettingsError(text("home-in-use", home=str(settings.home))) from error
    return handle


def _check_port(settings: Settings) -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(text("port-in-use", address=settings.authority, reason=error.strerror)) from error


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m shared.instance.up", description="Run a complete instance.")
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="the parent of this process; if it is killed, the instance ends"
    )
    return parser


def main() -> None:
    """Check and prepare the instance, and run its processes."""
    arguments = make_parser().parse_args()
    if arguments.parent is not None:
        end_with_parent(arguments.parent)
    try:
        settings = load_settings()
        protect_state(settings)
        lock = _lock(settings)
        _check_port(settings)
        database = Database(settings.database)
        migrate(database)
        database.close()
        path = write_configuration(settings, list_processes(settings))
        sys.exit(run_supervisor(path, lock))
    except MindjobsError as error:
        sys.exit(f"mindjobs: {error.title}: {error.detail}")
    except SQLAlchemyError as error:
        sys.exit(f"mindjobs: MINDJOBS_DATABASE_URL: the database does not respond: {error}")


if __name__ == "__main__":
    main()
