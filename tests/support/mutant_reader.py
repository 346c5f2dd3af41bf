"""A process without rights that reads many files in turn, for tests: starting one for each would take most of the time.

It gives up the same rights as `shared.inspection.child`. Its argument is its limits as JSON, standard input a socket.
The first message brings the descriptor of a file. After each message, whatever is in the file then is inspected and
decoded, and one JSON object is sent back.
"""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
_CONNECTION: Final = 3
_MAX_REPLY_BYTES: Final = 60_000


def main() -> None:
    """Give up all rights, and read the file after each message."""
    sys.path.insert(0, str(ROOT))
    from shared.inspection import restrictions

    os.dup2(0, _CONNECTION)
    status = os.open("/proc/self/status", os.O_RDONLY)
    restrictions.restrict(restrictions.Limits(**json.loads(sys.argv[1])))
    from shared.inspection import audio, clips
    from shared.inspection.child import PATH

    with socket.socket(fileno=_CONNECTION) as connection:
        _, (descriptor,), _, _ = socket.recv_fds(connection, 1, 1)
        os.dup2(descriptor, 0)
        os.close(descriptor)
        restrictions.restrict_to_file(0)
        while message := connection.recv(2**16):
            options = json.loads(message)
            begun_s = time.process_time()
            reply = {
                "inspected": _run(audio.inspect, PATH, options),
                "decoded": _run(clips.decode, PATH, options),
                "cpu_s": time.process_time() - begun_s,
                # Not ``ru_maxrss``: it begins with the size of the process that has started this one.
                "memory_bytes": int(re.findall(rb"VmHWM:\s+(\d+)", os.pread(status, 2**16, 0))[0]) * 1024,
            }
            connection.send(json.dumps(reply).encode()[:_MAX_REPLY_BYTES])


def _run(function: Any, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    from shared.errors import MindjobsError

    try:
        found = function(path, options)
    except MindjobsError as error:
        return {"problem": error.text.serialize()}
    except MemoryError:
        return {"problem": {"code": "inspection-too-large", "values": {}}}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test fails with it
        return {"failure": repr(error)}
    if isinstance(found, tuple):
        return {"facts": found[0], "bytes": len(found[1])}
    return {"facts": found}


if __name__ == "__main__":
    main()
