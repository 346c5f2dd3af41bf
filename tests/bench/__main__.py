"""Run the measurements, print them, and write them into the report."""

import argparse
import importlib
import sys
import time
from pathlib import Path

from tests.bench.document import replace_section
from tests.bench.machine import REPORT, ROOT, describe_machine, describe_origin
from tests.bench.section import Section

PARTS = ("knn", "jobs", "web", "musicgen")


def main() -> None:
    """Run the part asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--report", type=Path, default=ROOT / REPORT, help="the file to write, beside printing")
    arguments = parser.parse_args()
    for part in (arguments.part,) if arguments.part else PARTS:
        origin = describe_origin()
        started_s = time.monotonic()
        section: Section = importlib.import_module(f"tests.bench.{part}").run()
        took = f"measured within {(time.monotonic() - started_s) / 60:.1f} min"
        about = ", ".join(fact for fact in (describe_machine(), section.about, origin, took) if fact)
        text = f"{about}.\n\n{section.write()}"
        sys.stdout.write(f"## {part}\n\n{text}\n\n")
        sys.stdout.flush()
        before = arguments.report.read_text(encoding="utf-8") if arguments.report.exists() else ""
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(replace_section(before, part, text, PARTS), encoding="utf-8")


if __name__ == "__main__":
    main()
