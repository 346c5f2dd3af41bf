"""The inner half of a ``companion``: measures what it is asked for, a JSON line each, until its input ends.

Imports little, because PyTorch's environment has little.
"""

import json
import sys
from pathlib import Path


def serve(bench: object) -> None:
    """Call the methods that lines like ``{"measure": "time_jobs", "jobs": 4}`` name, and print what they return."""
    for line in sys.stdin:
        request = json.loads(line)
        measure = getattr(bench, request.pop("measure"))
        write(**measure(**request))


def write(**measurement: object) -> None:
    """Print a measurement, with the peak memory so far."""
    sys.stdout.write(json.dumps(measurement | {"peak_bytes": read_peak_bytes()}) + "\n")
    sys.stdout.flush()


def read_peak_bytes() -> int:
    """Read this process's highest resident size; that of ``getrusage`` may be its parent's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("the kernel does not tell the highest resident size")
