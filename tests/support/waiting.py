"""Waits for a condition: checks the condition repeatedly until it is met or a deadline has passed."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
DEADLINE_S: Final = 600.0
"""The longest time that a test waits for anything; enough even for a slow and busy machine.

Only a test that fails waits this long. The deadline is shorter than pytest's ``timeout``, which ends a test that hangs.
"""
LOOK_EVERY_S = 0.02


def wait_until(look: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Call ``look`` repeatedly until it returns a true value, and return this value.

    Parameters
    ----------
    what
        What the test waits for. The message of the error contains it.

    Raises
    ------
    AssertionError
        ``look`` has returned no true value within ``deadline_s``.
    """
    give_up_at = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > give_up_at:
            raise AssertionError(f"waited {deadline_s:g} s for {what}; the last answer was {answer!r}")
        pause.wait(LOOK_EVERY_S)
