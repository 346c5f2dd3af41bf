"""Run the benchmarks, print their results, and write them into the report."""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.document import replace_section
from tests.bench.machine import describe_machine
from tests.bench.section import Section
from tests.bench.source_tree import REPORT, ROOT, UncleanTreeError, check_tree_clean, describe_commit

PARTS = ("knn", "jobs", "web", "musicgen")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one part, or all parts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--report", type=Path, default=ROOT / REPORT, help=f"the file to write ({REPORT})")
    chosen = parser.parse_args(arguments)
    for part in (chosen.part,) if chosen.part else PARTS:
        try:
            run_part(part, chosen.report)
        except UncleanTreeError as error:
            parser.exit(1, f"{parser.prog}: {error}\n")


def run_part(part: str, report: Path) -> None:
    """Run one part, print its section, and replace the section in the report.

    Raises
    ------
    UncleanTreeError
        The report is ``docs/benchmarks.md``, and the tree is not clean before or after the run.
    """
    check_report_allowed(report)
    commit = describe_commit()
    started_s = time.monotonic()
    section = import_part(part)()
    duration = f"measured within {(time.monotonic() - started_s) / 60:.1f} min"
    facts = ", ".join(fact for fact in (describe_machine(), section.conditions, commit, duration) if fact)
    text = f"{facts}.\n\n{section.format()}"
    sys.stdout.write(f"## {part}\n\n{text}\n\n")
    sys.stdout.flush()
    check_report_allowed(report)
    before = report.read_text(encoding="utf-8") if report.exists() else ""
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(replace_section(before, part, text, PARTS), encoding="utf-8")


def import_part(part: str) -> Callable[[], Section]:
    """Import a part, and return the function that runs it.

    Parts are imported one by one, so that one part does not load the libraries of the other parts.
    """
    run: Callable[[], Section] = importlib.import_module(f"tests.bench.{part}").run
    return run


def check_report_allowed(report: Path) -> None:
    """Refuse to write ``docs/benchmarks.md`` from a tree with changes; a report in another file is always allowed.

    Raises
    ------
    UncleanTreeError
        The tree has changes.
    """
    if report.resolve() == (ROOT / REPORT).resolve():
        check_tree_clean()


if __name__ == "__main__":
    main()
