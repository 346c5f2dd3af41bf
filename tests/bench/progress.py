"""What the bench is at, for those who wait."""

import sys
import time
from typing import Final

_STARTED_S: Final = time.monotonic()


def tell(what: str) -> None:
    """Print what begins, with the time since the start, where it is in nobody's way."""
    sys.stderr.write(f"{time.monotonic() - _STARTED_S:6.0f} s  {what}\n")
    sys.stderr.flush()
