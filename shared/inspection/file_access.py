"""Takes away the files of the machine: Landlock, with which a process without rights restricts itself.

Otherwise, a parser that a file has taken over could read the database, secrets and other people's uploads, tell them in
its answer, or delete them.

References
----------
``linux/landlock.h``; the calls have the same numbers on all architectures.
"""

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH: Final = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_HANDLED: Final = (1 << 13) - 1
"""All rights that the first version of Landlock knows: to execute, read, write, create and remove."""
_ROOT: Final = Path(__file__).parents[2]
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")

_library: Final = ctypes.CDLL(None, use_errno=True)


def restrict_files(descriptor: int) -> None:
    """From now on, allow this process to open only its input and the files of Python and of libraries, for reading.

    Parameters
    ----------
    descriptor
        The descriptor of the input, which may also be opened again by its name in ``/proc/self/fd``.

    Raises
    ------
    OSError
        The kernel has no Landlock, or the system refuses it.
    """
    attributes = struct.pack("Q", _HANDLED)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        _allow(ruleset, descriptor)
        # Not the folder of the repository itself, since it usually contains the state folder.
        for folder in sorted({sys.prefix, sys.base_prefix, str(_ROOT / "shared"), *_SYSTEM, *sys.path} - {str(_ROOT)}):
            with contextlib.suppress(FileNotFoundError), _opened(folder) as opened:
                _allow(ruleset, opened)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, opened: int) -> None:
    """Allow to read the file, or everything below the folder, with this descriptor."""
    is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
    rights = _READ_FILE | _READ_FOLDER if is_folder else _READ_FILE
    _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    """Make a system call; its arguments are words of the machine."""
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(_library.syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
