"""Run the measurements and print them, with the machine they ran on."""

import argparse
import importlib
import os
import platform
import sys

import psutil

PARTS = ("knn", "jobs", "musicgen")


def describe_machine() -> str:
    """Describe where the figures come from."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = psutil.virtual_memory().total / 2**30
    python = platform.python_version()
    return f"{platform.machine()}, {cores} cores, {memory_gib:.0f} GiB, {platform.system()}, Python {python}"


def main() -> None:
    """Run the parts asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("part", nargs="?", choices=PARTS)
    chosen = parser.parse_args().part
    sys.stdout.write(f"# mindjobs, measured\n\n{describe_machine()}\n")
    for part in (chosen,) if chosen else PARTS:
        module = importlib.import_module(f"tests.bench.{part}")
        sys.stdout.write(f"\n## {part}\n\n{module.run()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
