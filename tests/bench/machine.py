"""Where and of what the figures come: the machine, the day, the commit. No names, no paths."""

import datetime as dt
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).parents[2]
REPORT: Final = "docs/benchmarks.md"


def describe_machine() -> str:
    """Describe what computes."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = psutil.virtual_memory().total / 2**30
    system = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return f"{_find_processor()}, {cores} cores, {memory_gib:.0f} GiB, {system}"


def describe_origin() -> str:
    """Tell the day, and the commit that is measured."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    try:
        commit = _ask_git("rev-parse", "--short", "HEAD")
        changed = _ask_git("status", "--porcelain", "--", ".", f":!{REPORT}")
    except (OSError, subprocess.CalledProcessError):
        return f"{today}, no commit"
    return f"{today}, commit {commit}{' and changes to it' if changed else ''}"


def _find_processor() -> str:
    """Read the processor's model, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown processor"


def _ask_git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
