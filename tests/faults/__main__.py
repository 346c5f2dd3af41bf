"""Run a part of a campaign: ``make faults``, as ``python -m tests.faults``.

The exit status is 1 if something was lost, doubled or damaged, or if the service has not recovered from a fault.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.source_tree import FAULTS_REPORT, ROOT, UncleanTreeError, check_tree_clean, describe_commit
from tests.faults.campaign import Plan, run_part
from tests.faults.kinds import FAULTS, draw_faults
from tests.faults.record import OtherCampaignError, Record
from tests.faults.report import format_report

STATE: Final = "STATE.json"
JOBS: Final = 10_000
FAULT_COUNT: Final = 200
MINUTES: Final = 30.0
SMALL_JOBS: Final = 60
SMALL_MAX_S: Final = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a part, and write the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long this part injects faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=JOBS, help="the jobs of the whole campaign")
    parser.add_argument("--faults", type=int, default=FAULT_COUNT, help="the faults of the whole campaign")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "faults", help="keeps the campaign between parts")
    parser.add_argument(
        "--report", type=Path, default=ROOT / FAULTS_REPORT, help=f"the file to write ({FAULTS_REPORT})"
    )
    parser.add_argument("--small", action="store_true", help="a small campaign of one part, without a document")
    chosen = parser.parse_args(arguments)
    if chosen.small:
        return run_small(chosen.seed)
    try:
        return run_next_part(chosen)
    except (UncleanTreeError, OtherCampaignError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def run_small(seed: int) -> int:
    """Run one fault of each cheap kind, and print the figures."""
    cheap = tuple(fault for fault in FAULTS if fault.is_cheap)
    record = Record(seed, SMALL_JOBS, len(cheap))
    plan = Plan(draw_faults(seed, len(cheap), cheap), SMALL_MAX_S, min_fault_s=1.0, max_fault_s=3.0)
    with tempfile.TemporaryDirectory(prefix="mj-faults-logs-") as logs:
        run_part(record, plan, Path(logs), save=lambda: None)
    sys.stdout.write(f"{format_report(record)}\n")
    return 1 if record.problems else 0


def run_next_part(chosen: argparse.Namespace) -> int:
    """Go on with the campaign for some minutes, keep its record, and write the document.

    Raises
    ------
    UncleanTreeError
        The document is ``docs/faults.md``, and the tree is not clean before or after the run.
    """
    check_report_allowed(chosen.report)
    state = chosen.folder / STATE
    record = Record.load(state, chosen.seed, chosen.jobs, chosen.faults)
    if record.is_complete:
        sys.stdout.write(f"The campaign is complete. To begin another one, remove {state}.\n")
        return 1 if record.problems else 0
    commit, started_s = describe_commit(), time.monotonic()
    first = record.position
    plan = Plan(draw_faults(record.seed, record.faults), chosen.minutes * 60)
    record.parts.append("")

    def save() -> None:
        minutes = (time.monotonic() - started_s) / 60
        record.parts[-1] = f"{commit}: faults {first + 1} to {record.position} within {minutes:.1f} min"
        record.save(state)

    run_part(record, plan, chosen.folder / f"part-{len(record.parts)}", save)
    save()
    text = format_report(record)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    check_report_allowed(chosen.report)
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(f"{text}\n", encoding="utf-8")
    return 1 if record.problems else 0


def check_report_allowed(report: Path) -> None:
    """Refuse to write ``docs/faults.md`` from a tree with changes; a report in another file is always allowed.

    Raises
    ------
    UncleanTreeError
        The tree has changes.
    """
    if report.resolve() == (ROOT / FAULTS_REPORT).resolve():
        check_tree_clean(report=FAULTS_REPORT)


if __name__ == "__main__":
    # The instance and its servers are ended as well.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main())
