"""How processes log: a line per event on standard error, which the process manager collects."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"


def set_up_logging(level: str) -> None:
    """Send everything to standard error from now on."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr, force=True)
    logging.captureWarnings(capture=True)
    # Alembic and kombu tell of each step; their warnings are enough.
    for name in ("alembic", "kombu", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
