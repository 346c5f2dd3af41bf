"""Whose turn it is to compute."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

_TURN: Final = threading.RLock()


def run_exclusively(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let one thread at a time into all that is decorated: MindSpore cannot compile beside anything else."""

    @wraps(function)
    def wait_and_call(*arguments: Given.args, **named: Given.kwargs) -> Result:
        with _TURN:
            return function(*arguments, **named)

    return wait_and_call
