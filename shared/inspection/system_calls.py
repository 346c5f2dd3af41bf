"""Refuses the system calls with which a process could reach others: seccomp, the kernel's filter of system calls.

Namespaces would do the same for the network, but containers usually refuse namespaces and always allow such a filter.
The limit of the number of processes does not bind root; the filter does. Threads are allowed, since libraries use them.

References
----------
``linux/seccomp.h``, ``linux/filter.h`` and ``linux/audit.h``; the numbers of the calls are from ``asm/unistd.h``.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_CLONE_THREAD: Final = 0x0001_0000
# Instructions of the filter: load a word of the call's description, compare, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Where the description (``struct seccomp_data``) has the number, the architecture, and the first argument's lower half.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_FAIL: Final = 0x0005_0000

# These have the same number on every architecture.
_NEW_CALLS: Final = {"io_uring_setup": 425, "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438} | {
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
}


@dataclass(frozen=True)
class _Architecture:
    """The calls of one architecture.

    Parameters
    ----------
    audit_id
        How the kernel names the architecture.
    refused
        Calls that fail, keyed by name: sockets, programs, other processes and their memory, namespaces, mounts, keys,
        changes of files that `shared.inspection.file_access` does not prevent, and ways around this filter.
    clone
        Starts a thread or a process. The newer ``clone3`` has its flags in memory that a filter cannot read, so it is
        said not to exist, and the C library uses this one.
    own_only
        Calls whose first argument is the id of a process: they may name this process only.
    """

    audit_id: int
    refused: Mapping[str, int]
    clone: int
    own_only: Mapping[str, int]


_CLONE3: Final = 435
_ARCHITECTURES: Final = {
    "x86_64": _Architecture(
        audit_id=0xC000_003E,
        refused=_NEW_CALLS
        | {"socket": 41, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101, "tkill": 200}
        | {"process_vm_readv": 310, "process_vm_writev": 311, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297}
        | {"unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "bpf": 321}
        | {"perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250}
        | {"open_by_handle_at": 304, "truncate": 76, "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92}
        | {"fchown": 93, "lchown": 94, "fchownat": 260, "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280}
        | {"setxattr": 188, "lsetxattr": 189, "fsetxattr": 190}
        | {"removexattr": 197, "lremovexattr": 198, "fremovexattr": 199},
        clone=56,
        own_only={"kill": 62, "tgkill": 234, "prlimit64": 302},
    ),
    "aarch64": _Architecture(
        audit_id=0xC000_00B7,
        refused=_NEW_CALLS
        | {"socket": 198, "execve": 221, "execveat": 281, "ptrace": 117, "tkill": 130}
        | {"process_vm_readv": 270, "process_vm_writev": 271, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240}
        | {"unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "bpf": 280}
        | {"perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219}
        | {"open_by_handle_at": 265, "truncate": 45, "fchmod": 52, "fchmodat": 53, "fchown": 55, "fchownat": 54}
        | {"utimensat": 88, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7}
        | {"removexattr": 14, "lremovexattr": 15, "fremovexattr": 16},
        clone=220,
        own_only={"kill": 129, "tgkill": 131, "prlimit64": 261},
    ),
}
_X32_CALLS: Final = 0x4000_0000
"""On x86_64, the numbers from here on are the same calls in another form."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_system_calls() -> None:
    """Install the filter for this thread, and every thread that it starts, for as long as they run.

    Raises
    ------
    OSError
        The kernel refuses the filter, or the filter does not know the architecture.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise OSError(errno.ENOSYS, f"no filter for {platform.machine()}")
    instructions = b"".join(_build_filter(architecture, os.getpid()))
    program = _Program(len(instructions) // 8, instructions)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _build_filter(architecture: _Architecture, own_id: int) -> Iterable[bytes]:
    """Build the instructions; a jump skips the instruction after it if its condition is false."""
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_IF_EQUAL, architecture.audit_id, on_true=1)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield from _return_if(_IF_AT_LEAST, _X32_CALLS, _KILL) if platform.machine() == "x86_64" else ()
    yield from _return_if(_IF_EQUAL, _CLONE3, _FAIL | errno.ENOSYS)
    for number in sorted(architecture.refused.values()):
        yield from _return_if(_IF_EQUAL, number, _FAIL | errno.EPERM)
    yield _instruction(_IF_EQUAL, architecture.clone, on_false=4)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_IF_ANY_BIT, _CLONE_THREAD, on_true=1)
    yield _instruction(_RETURN, _FAIL | errno.EPERM)
    yield _instruction(_RETURN, _ALLOW)
    for number in sorted(architecture.own_only.values()):
        yield _instruction(_IF_EQUAL, number, on_false=5)
        yield _instruction(_LOAD, _FIRST_ARGUMENT)
        yield _instruction(_IF_EQUAL, own_id, on_true=2)
        yield _instruction(_IF_EQUAL, 0, on_true=1)  # this process; for kill, its own process group
        yield _instruction(_RETURN, _FAIL | errno.EPERM)
        yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_RETURN, _ALLOW)


def _return_if(condition: int, value: int, result: int) -> Iterable[bytes]:
    yield _instruction(condition, value, on_false=1)
    yield _instruction(_RETURN, result)


def _instruction(code: int, value: int, *, on_true: int = 0, on_false: int = 0) -> bytes:
    """Encode an instruction (``struct sock_filter``); a jump says how many instructions to skip."""
    return struct.pack("HBBI", code, on_true, on_false, value)
