"""The process that inspects one file, started by `shared.inspection.sandbox` and by nothing else.

Its arguments are the id of its parent, the function that inspects (``module:function``), and its limits as JSON.
Standard input is a socket, over which the parent sends the options as JSON together with the descriptor of the file.
Standard output is a pipe for the answer, one JSON object:

``{"facts": {…}}``, ``{"problem": {"code", "values"}}``, or ``{"failure": text for the log}``, each with ``"refused"``:
what the system refused of the restrictions. If the function has made bytes, a newline and these bytes follow.

The function gets the path of the file and the options, and returns facts that JSON can represent, or facts and bytes.
It raises a `MindjobsError` whose text says what is wrong with the file.
"""

import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
INPUT: Final = 0
ANSWER: Final = 1
PATH: Final = Path(f"/proc/self/fd/{INPUT}")
"""The file, for libraries that can only read from a path; also if it has been deleted since."""
MAX_OPTIONS_BYTES: Final = 2**16
OUT_OF_MEMORY: Final = "out-of-memory"
_MAX_FAILURE_CHARS: Final = 4_000
Found = dict[str, Any] | tuple[dict[str, Any], bytes]
"""What a function returns: facts, or facts and bytes."""


def main() -> None:
    """Give up all rights, import the function, receive the file, inspect it, and answer."""
    parent, function, limits = sys.argv[1:]
    os.environ.clear()  # Python may have set LC_CTYPE
    sys.path.insert(0, str(ROOT))
    from shared.inspection import restrictions  # noqa: PLC0415 - with the search path of an isolated process, only now
    from shared.parent_process import end_with_parent  # noqa: PLC0415

    end_with_parent(int(parent))
    refused = restrictions.restrict(restrictions.Limits(**json.loads(limits)))
    end_with_parent(int(parent))  # again, since the kernel may drop the setting when capabilities change
    answer: dict[str, Any]
    content = b""
    try:
        inspect = _load(function)  # while the process waits for a file, so that the file need not wait for this
        options = _receive_file()
        refused += restrictions.restrict_to_file(INPUT)
        answer, content = _inspect(inspect, options)
    except BaseException as error:  # noqa: BLE001 - errors of libraries written in Rust are no Exceptions
        answer = {"failure": _describe(error)}
    _write(json.dumps(answer | {"refused": refused}).encode())
    if content:
        _write(b"\n")
        _write(content)


def _load(function: str) -> Callable[[Path, dict[str, Any]], Found]:
    module, _, name = function.partition(":")
    loaded: Callable[[Path, dict[str, Any]], Found] = getattr(import_module(module), name)
    return loaded


def _receive_file() -> dict[str, Any]:
    """Receive the file in the place of the socket, and return the options; end if the parent closes the socket."""
    with socket.socket(fileno=os.dup(INPUT)) as connection:
        message, descriptors, _, _ = socket.recv_fds(connection, MAX_OPTIONS_BYTES, 1)
    if not descriptors:
        os._exit(0)
    os.dup2(descriptors[0], INPUT)
    os.close(descriptors[0])
    options: dict[str, Any] = json.loads(message)
    return options


def _inspect(inspect: Callable[[Path, dict[str, Any]], Found], options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    from shared.errors import MindjobsError  # noqa: PLC0415 - see `main`

    try:
        found = inspect(PATH, options)
    except MindjobsError as error:
        return {"problem": error.text.serialize()}, b""
    facts, content = found if isinstance(found, tuple) else (found, b"")
    return {"facts": facts}, content


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return OUT_OF_MEMORY
    import traceback  # noqa: PLC0415 - rarely needed

    return "".join(traceback.format_exception(error))[-_MAX_FAILURE_CHARS:]


def _write(content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(ANSWER, view) :]


if __name__ == "__main__":
    main()
