"""The lock that lets only one thread at a time use MindSpore."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LOCK: Final = threading.RLock()


def run_exclusively(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let only one thread at a time run the decorated functions.

    MindSpore cannot compile in one thread while it computes in another thread.
    """

    @wraps(function)
    def call_with_lock(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with _LOCK:
            return function(*arguments, **named)

    return call_with_lock
