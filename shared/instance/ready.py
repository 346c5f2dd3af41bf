"""Print ``READY http://HOST:PORT`` as soon as jobs can be submitted: ``python -m shared.instance.ready``."""

import sys
import time
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from shared.database import worker_queries
from shared.database.connection import Database
from shared.jobs import Kind
from shared.settings import Settings, load_settings

POLL_INTERVAL_S: Final = 0.2
RESPONSE_TIMEOUT_S: Final = 5.0


def format_address(settings: Settings) -> str:
    """Return the address at which a browser on this machine reaches this instance."""
    # A client cannot connect to a wildcard address, so the address of loopback is shown instead.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    return f"http://{settings.model_copy(update={'host': host}).authority}"


def is_ready(settings: Settings, database: Database) -> bool:
    """Return whether the web application is ready and every kind of job has a live worker."""
    try:
        with urlopen(f"{format_address(settings)}/readyz", timeout=RESPONSE_TIMEOUT_S) as response:  # noqa: S310 - our own address
            if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                return False
    except (URLError, OSError):
        return False
    with database.reading() as session:
        alive = {kind for worker in worker_queries.list_live_workers(session) for kind in worker.kinds}
    return alive >= set(Kind)


def main() -> None:
    """Wait until the instance is ready, and print the address of the instance."""
    settings = load_settings()
    database = Database(settings.database)
    while not is_ready(settings, database):
        time.sleep(POLL_INTERVAL_S)
    sys.stdout.write(f"READY {format_address(settings)}\n")
    sys.stdout.flush()
    database.close()


if __name__ == "__main__":
    main()
