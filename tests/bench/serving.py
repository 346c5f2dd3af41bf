"""The loop that runs in a ``MeasuredProcess``: it runs the requested measurements until the input ends.

A request and its result are one JSON line each. This module imports only the
standard library, because the environment of the baselines has few packages.
"""

import json
import sys
from pathlib import Path


def serve_measurements(bench: object) -> None:
    """For each line of the input, call a method of ``bench``, and print the figures that the method returns.

    The line ``{"measurement": "time_jobs", "jobs": 4}`` calls ``bench.time_jobs(jobs=4)``.
    """
    for line in sys.stdin:
        request = json.loads(line)
        measure = getattr(bench, request.pop("measurement"))
        print_figures(**measure(**request))


def print_figures(**figures: object) -> None:
    """Print figures as one JSON line, and with them the peak memory of this process so far."""
    sys.stdout.write(json.dumps(figures | {"peak_bytes": read_peak_bytes()}) + "\n")
    sys.stdout.flush()


def read_peak_bytes() -> int:
    """Return the highest resident size of this process; ``getrusage`` may return the value of the parent process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("the kernel does not show the highest resident size")
