"""The document ``docs/faults.md``, and the same figures for the terminal."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tests.bench.machine import describe_machine
from tests.bench.section import format_table
from tests.faults.record import Record

HEAD: Final = """# Faults

Written only by `make faults`, from a clean tree. A complete instance, started by `make up` with the default settings
and with PostgreSQL, runs small jobs of both kinds while faults are injected one after another. *Recovery* is the time
from the end of a fault until one new job of each kind, submitted then, has ended. *stop* is SIGSTOP, then SIGCONT
after 2 to 10 s; *kill* is SIGKILL. To move the clock of the database by ten minutes, all stored times are moved in the
other direction.
"""


def format_report(record: Record) -> str:
    """Format the document in Markdown."""
    return "\n\n".join(
        text
        for text in (
            HEAD.rstrip(),
            f"{describe_machine()}; seed {record.seed}.",
            "\n".join(f"- {part}" for part in record.parts),
            f"## Outcome\n\n{_format_outcome(record)}",
            f"## Recovery\n\n{_format_recoveries(record)}",
            _format_list("Skipped", [f"{name}: {reason}" for name, reason in sorted(record.skipped.items())]),
            _format_list("Problems", record.problems),
        )
        if text
    )


def _format_outcome(record: Record) -> str:
    ended = sum(record.states.values())
    done = min(record.position / record.faults, record.acknowledged / record.jobs)
    injected = sum(len(times) for times in record.recoveries_s.values())
    rows = [
        ("done", "all" if record.is_complete else f"{done:.0%}"),
        ("faults injected", f"{injected:,} of {record.faults:,}"),
        ("submissions acknowledged", f"{record.acknowledged:,}"),
        ("jobs ended", f"{ended:,} ({_format_counts(record.states)})"),
        ("attempts per job", _format_counts(record.attempts)),
        ("files compared with their SHA-256 and size", f"{record.artifacts:,}"),
        ("answers to requests", _format_counts(record.answers)),
        ("problems (lost, doubled, failed, damaged, not recovered, not healthy)", f"{len(record.problems):,}"),
    ]
    return format_table(["what", "count"], rows)


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items()))


def _format_recoveries(record: Record) -> str:
    rows = [_format_times(name, times) for name, times in sorted(record.recoveries_s.items())]
    everything = [time_s for times in record.recoveries_s.values() for time_s in times]
    head = ["fault", "times", "p50 in s", "p99 in s", "maximum in s"]
    return format_table(head, [*rows, *([_format_times("all", everything)] if rows else [])])


def _format_times(name: str, times_s: Sequence[float]) -> list[str]:
    p50, p99 = np.percentile(times_s, [50, 99])
    return [name, str(len(times_s)), f"{p50:.1f}", f"{p99:.1f}", f"{max(times_s):.1f}"]


def _format_list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}\n", *(f"- {line}" for line in lines)]) if lines else ""
