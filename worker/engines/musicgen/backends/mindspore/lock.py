"""The lock of MindSpore."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LOCK: Final = threading.RLock()


def run_exclusively(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let only one thread at a time run any decorated function: MindSpore cannot compile while it computes."""

    @wraps(function)
    def call_with_lock(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with _LOCK:
            return function(*arguments, **named)

    return call_with_lock
