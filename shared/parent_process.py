"""Ends a process together with its parent process, in whichever way the parent ends."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""The number of the option in the kernel's interface, from ``linux/prctl.h``."""


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process (SIGKILL) as soon as its parent process has ended.

    The kernel keeps the setting when the process executes another program, but not for the children of the process:
    each child needs a call of its own. The kernel watches the thread that has created the process, so this thread must
    run as long as the parent process does.

    Parameters
    ----------
    parent
        The process id of the parent, which the parent must have given to this process. If the parent has ended before
        this call, this process has another parent, and is killed at once.

    Raises
    ------
    OSError
        The kernel refuses the setting.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
