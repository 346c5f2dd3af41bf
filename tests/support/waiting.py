"""Waits for what must happen, looking again until a deadline."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
DEADLINE_S: Final = 600.0
"""How long a test waits for anything, however slow and busy the machine is.

Only a test that fails waits as long. It is less than pytest's ``timeout``, which ends a test that hangs.
"""
LOOK_EVERY_S = 0.02


def wait_until(look: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first true answer of ``look``, or fail saying what was waited for."""
    give_up_at = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > give_up_at:
            raise AssertionError(f"waited {deadline_s:g} s for {what}; the last answer was {answer!r}")
        pause.wait(LOOK_EVERY_S)
