"""How fast the nearest of 100,000 rows are found, exactly, beside scikit-learn, faiss and the naive loop.

Every contender has a process of its own, so that neither its threads nor its
memory mix with another's; the processes take turns, one search at a time, so
that what the machine does meanwhile falls on all alike. Peak memory is the
process's highest resident size during the searches above its size before the
first, when libraries and data were loaded.
"""

import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from tests.bench.knn_search import COLUMNS, LOOP_SHARE, QUERIES, ROWS, Floats, K, Rows, make_tables
from tests.bench.peer_process import Companion, find_peer_python, keep_errors
from tests.bench.section import Ratio, Section, count_repeats, write_table

REPEATS: Final = 7
AIM: Final = 1.0
"""No slower than the peers."""


@dataclass
class Contender:
    """A way to search, and what was measured of it.

    Parameters
    ----------
    way
        As ``knn_search`` calls it.
    """

    title: str
    way: str
    python: Path
    scale: int = 1
    times_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    wrong: int = 0

    @property
    def median_s(self) -> float:
        """The median time of all queries."""
        return statistics.median(self.times_s) * self.scale


def run() -> Section:
    """Measure."""
    own, theirs = Path(sys.executable), find_peer_python()
    ours = Contender("mindjobs, exact", "mindjobs", own)
    scikit_learn = Contender("scikit-learn, brute force, float64", "scikit-learn", theirs)
    faiss = Contender("faiss, flat, float32", "faiss", theirs)
    loop = Contender(f"one query at a time, MindSpore (1/{LOOP_SHARE} of them, scaled up)", "loop", own, LOOP_SHARE)
    aims: dict[str, tuple[Contender, float | None]] = {
        "scikit-learn's time / ours": (scikit_learn, AIM),
        "faiss's time / ours": (faiss, AIM),
        "one query at a time / ours": (loop, None),
    }
    repeats = count_repeats(REPEATS)
    contenders = [ours, *(contender for contender, _ in aims.values())]
    _measure(contenders, repeats)
    ratios = [Ratio(name, contender.median_s / ours.median_s, aim) for name, (contender, aim) in aims.items()]
    return Section(ratios, _write_figures(contenders, repeats))


def find_by_brute_force(training: Floats, queries: Floats) -> Rows:
    """Find the neighbours by float64 distances and then by index, query by query."""
    found = np.empty((len(queries), K), np.int64)
    for number, query in enumerate(queries):
        distances = np.sqrt(np.square(training - query).sum(axis=1))
        found[number] = np.argsort(distances, kind="stable")[:K]
    return found


def _measure(contenders: list[Contender], repeats: int) -> None:
    """Let the contenders search in turn; the first round, which compiles and loads, is not timed."""
    with ExitStack() as stack:
        errors = stack.enter_context(keep_errors())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        companions = [
            Companion(errors, contender.python, "-m", "tests.bench.knn_search", contender.way)
            for contender in contenders
        ]
        for companion in companions:
            stack.callback(companion.close)
        for repeat in range(repeats + 1):
            for contender, companion in zip(contenders, companions, strict=True):
                search_s = companion.ask("time_search")["search_s"]
                if repeat:
                    contender.times_s.append(search_s)
        expected = find_by_brute_force(*make_tables())
        for contender, companion in zip(contenders, companions, strict=True):
            path = folder / f"{contender.way}.npy"
            contender.peak_bytes = companion.ask("store_found", path=str(path))["grown_bytes"]
            found = np.load(path)
            contender.wrong = int((found != expected[: len(found)]).any(axis=1).sum())


def _write_figures(contenders: list[Contender], repeats: int) -> str:
    rows = [
        [
            contender.title,
            f"{contender.median_s:.3f}",
            f"{min(contender.times_s) * contender.scale:.3f}",
            f"{max(contender.times_s) * contender.scale:.3f}",
            f"{contender.peak_bytes / 2**20:.0f}",
            f"{contender.wrong} of {QUERIES // contender.scale}",
        ]
        for contender in contenders
    ]
    head = ["", "median s", "fastest s", "slowest s", "peak memory MiB", "queries unlike float64 brute force"]
    return (
        f"{QUERIES:,} queries x {ROWS:,} rows x {COLUMNS} columns, k = {K}; medians of {repeats} searches in turn. "
        "Peak memory: highest resident size of the contender's own process during its searches, above its size before "
        "the first (libraries and tables loaded).\n\n" + write_table(head, rows)
    )
