"""What a process gives up before it reads a file that anyone may have uploaded.

Everything here is either required, or refused by some systems (containers, older kernels). What was refused is
returned, so that it can be logged. The restrictions cover each other: see `shared.inspection.system_calls`.
"""

import contextlib
import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.inspection.file_access import restrict_files
from shared.inspection.system_calls import refuse_system_calls

_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWIPC: Final = 0x0800_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_CAPABILITY_VERSION: Final = 0x2008_0522
MAX_CPUS: Final = 2
"""An inspection may use this many processors, and leaves the others to workers and the web."""
NICENESS: Final = 5
"""On a busy machine, an inspection gets a third of the processor time of each worker. More niceness would let people
wait for seconds while music is generated."""
MAX_THREADS: Final = 64
MAX_FILES: Final = 64
LIBRARY_BYTES: Final = 2**29
"""Address space that Python and its libraries take without using it, in addition to the allowed memory."""

_library: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """What a process may use.

    Parameters
    ----------
    memory_bytes
        Its memory.
    cpu_s
        Its processor time in seconds; when it is used up, the process gets SIGXCPU.
    """

    memory_bytes: int
    cpu_s: int


def restrict(limits: Limits) -> list[str]:
    """Give up what this process does not need to import libraries; it may have one thread only.

    Returns
    -------
    What the system refused, for the log.

    Raises
    ------
    OSError
        A limit or ``no_new_privs`` cannot be set.
    """
    refused: list[str] = []
    os.nice(NICENESS)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-MAX_CPUS:])
    with contextlib.suppress(OSError):  # only a hint for the kernel: if memory runs out, it ends this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    has_own_users = _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    if not has_own_users and not _call("unshare", _CLONE_NEWNET | _CLONE_NEWIPC):
        refused.append("a network namespace")
    _limit(limits, limit_threads=has_own_users)
    if not _drop_capabilities():
        refused.append("dropping capabilities")
    if not _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    try:
        refuse_system_calls()
    except OSError as error:
        refused.append(f"a filter of system calls ({error})")
    return refused


def restrict_to_file(descriptor: int) -> list[str]:
    """Give up all files but one, and those that Python and its libraries consist of; see `restrict_files`.

    Returns
    -------
    What the system refused, for the log.
    """
    try:
        restrict_files(descriptor)
    except OSError as error:
        return [f"Landlock ({error})"]
    return []


def _limit(limits: Limits, *, limit_threads: bool) -> None:
    """Set the limits of resources.

    Parameters
    ----------
    limit_threads
        Whether to limit the number of threads and processes. The kernel counts those of the same user and user
        namespace. Without a namespace of its own, the count would include the web and the workers.
    """
    every = {
        resource.RLIMIT_AS: (limits.memory_bytes + LIBRARY_BYTES,) * 2,
        resource.RLIMIT_CPU: (limits.cpu_s, limits.cpu_s + 1),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NOFILE: (MAX_FILES, MAX_FILES),
        resource.RLIMIT_CORE: (0, 0),
    }
    if limit_threads:
        every[resource.RLIMIT_NPROC] = (MAX_THREADS, MAX_THREADS)
    for kind, pair in every.items():
        resource.setrlimit(kind, pair)


def _drop_capabilities() -> bool:
    """Drop all capabilities, with which root could raise the limits again."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; two words each
    return _call("capset", ctypes.byref(header), ctypes.byref(sets))


def _call(name: str, *arguments: object) -> bool:
    """Call a function of the C library, and return whether it succeeded."""
    return bool(getattr(_library, name)(*arguments) == 0)
