"""The inner half of a ``MeasuredProcess``: runs the measurements that are requested, until its input ends.

A request and its result are one JSON line each. This module imports little,
because the baselines' environment contains little.
"""

import json
import sys
from pathlib import Path


def serve_measurements(bench: object) -> None:
    """Call the methods that lines like ``{"measurement": "time_jobs", "jobs": 4}`` name, and print what they return."""
    for line in sys.stdin:
        request = json.loads(line)
        measure = getattr(bench, request.pop("measurement"))
        print_figures(**measure(**request))


def print_figures(**figures: object) -> None:
    """Print figures as one JSON line, with the peak memory so far."""
    sys.stdout.write(json.dumps(figures | {"peak_bytes": read_peak_bytes()}) + "\n")
    sys.stdout.flush()


def read_peak_bytes() -> int:
    """Read the highest resident size of this process; ``getrusage`` may return that of its parent."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("the kernel does not show the highest resident size")
