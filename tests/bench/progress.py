"""Progress messages of a running benchmark."""

import sys
import time
from typing import Final

_STARTED_S: Final = time.monotonic()


def log_progress(message: str) -> None:
    """Print a message with the time since the start to standard error; standard output is for the results."""
    sys.stderr.write(f"{time.monotonic() - _STARTED_S:6.0f} s  {message}\n")
    sys.stderr.flush()
