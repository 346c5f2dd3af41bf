"""Compare all data sets, and write ``docs/tables.md``; the exit status is 1 if one in ten or more do not agree."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from shared.instance.ready import format_address
from tests.bench.source_tree import ROOT
from tests.real_tables.comparison import compare_all
from tests.real_tables.document import format_document
from tests.support.instances import make_settings, wait_for_ready
from tests.support.processes import ServiceProcess

REPORT: Final = ROOT / "docs" / "tables.md"
MIN_AGREEING: Final = 0.9
EXPORT: Final = Path(__file__).with_name("export.py")


def main() -> int:
    """Export the data sets, compare them by an instance of its own, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.real_tables")
    parser.add_argument(
        "python", type=Path, help="the interpreter of the environment with the packages of the data sets"
    )
    parser.add_argument("--report", type=Path, default=REPORT, help=f"the file to write ({REPORT.relative_to(ROOT)})")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mj-tables-") as name:
        folder = Path(name)
        subprocess.run([chosen.python, "-P", EXPORT, folder], check=True)
        with make_settings() as settings:
            instance = ServiceProcess("shared.instance.up", settings=settings, log=folder / "up.log")
            try:
                wait_for_ready(instance, settings)
                found = compare_all(format_address(settings), folder)
            finally:
                instance.close()
    document = format_document(found)
    chosen.report.write_text(document, encoding="utf-8")
    sys.stdout.write(document)
    return int(sum(one.agrees for one in found) < MIN_AGREEING * len(found))


if __name__ == "__main__":
    sys.exit(main())
