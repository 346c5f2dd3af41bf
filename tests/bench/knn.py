"""How fast the service finds exact nearest neighbours, compared with scikit-learn, faiss, and a loop over the queries.

The neighbours are searched for among 100,000 rows. Each implementation has a process of
its own, so that implementations share neither threads nor memory. The implementations
search in turn, one search at a time, so that other load on the machine affects all of them
equally. Peak memory is the highest
resident size of a process during its searches, minus its resident size before the
first search, when libraries and data were already loaded.
"""

import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from tests.bench.knn_search import COLUMNS, LOOP_QUERY_DIVISOR, QUERIES, ROWS, Floats, K, Rows, make_tables
from tests.bench.measured_process import MeasuredProcess, collect_errors, find_baseline_python
from tests.bench.section import Ratio, Section, format_table, read_repeats

REPEATS: Final = 7
MIN_RATIO: Final = 1.0
"""The lowest ratio to aim for. A ratio is the time of a baseline divided by the time of the service."""


@dataclass
class Implementation:
    """An implementation of the search, and its measured times, memory and errors.

    Parameters
    ----------
    title
        The name of the implementation in the report.
    name
        The name of the implementation in ``knn_search``.
    python
        The Python interpreter of the environment of the implementation.
    query_divisor
        If this is n, the implementation searches for only 1/n of the queries, and its times are multiplied by n.
    wrong_queries
        The number of queries for which the result differs from that of a brute-force search in float64.
    """

    title: str
    name: str
    python: Path
    query_divisor: int = 1
    times_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    wrong_queries: int = 0

    @property
    def median_s(self) -> float:
        """The median time of a search for all queries."""
        return statistics.median(self.times_s) * self.query_divisor


def run() -> Section:
    """Measure all implementations, and return the section for the report."""
    own_python, baseline_python = Path(sys.executable), find_baseline_python()
    ours = Implementation("mindjobs, exact", "mindjobs", own_python)
    scikit_learn = Implementation("scikit-learn, brute force, float64", "scikit-learn", baseline_python)
    faiss = Implementation("faiss, flat, float32", "faiss", baseline_python)
    loop_title = f"one query at a time, MindSpore (1/{LOOP_QUERY_DIVISOR} of the queries; time scaled up)"
    loop = Implementation(loop_title, "loop", own_python, LOOP_QUERY_DIVISOR)
    baselines: dict[str, tuple[Implementation, float | None]] = {
        "scikit-learn's time / ours": (scikit_learn, MIN_RATIO),
        "faiss's time / ours": (faiss, MIN_RATIO),
        "one query at a time / ours": (loop, None),
    }
    repeats = read_repeats(REPEATS)
    implementations = [ours, *(baseline for baseline, _ in baselines.values())]
    _measure(implementations, repeats)
    ratios = [Ratio(name, baseline.median_s / ours.median_s, aim) for name, (baseline, aim) in baselines.items()]
    return Section(ratios, _format_figures(implementations, repeats))


def search_by_brute_force(training: Floats, queries: Floats) -> Rows:
    """Find the nearest rows of each query in float64; rows at equal distance are sorted by index."""
    found = np.empty((len(queries), K), np.int64)
    for number, query in enumerate(queries):
        distances = np.sqrt(np.square(training - query).sum(axis=1))
        found[number] = np.argsort(distances, kind="stable")[:K]
    return found


def _measure(implementations: list[Implementation], repeats: int) -> None:
    """Let the implementations search in turn.

    The first search of each implementation is not recorded, because it also compiles and loads.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(collect_errors())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        processes = [
            MeasuredProcess(errors, implementation.python, "-m", "tests.bench.knn_search", implementation.name)
            for implementation in implementations
        ]
        for process in processes:
            stack.callback(process.close)
        for repeat in range(repeats + 1):
            for implementation, process in zip(implementations, processes, strict=True):
                search_s = process.measure("time_search")["search_s"]
                if repeat:
                    implementation.times_s.append(search_s)
        expected = search_by_brute_force(*make_tables())
        for implementation, process in zip(implementations, processes, strict=True):
            path = folder / f"{implementation.name}.npy"
            implementation.peak_bytes = process.measure("store_found", path=str(path))["search_bytes"]
            found = np.load(path)
            implementation.wrong_queries = int((found != expected[: len(found)]).any(axis=1).sum())


def _format_figures(implementations: list[Implementation], repeats: int) -> str:
    rows = [
        [
            implementation.title,
            f"{implementation.median_s:.3f}",
            f"{min(implementation.times_s) * implementation.query_divisor:.3f}",
            f"{max(implementation.times_s) * implementation.query_divisor:.3f}",
            f"{implementation.peak_bytes / 2**20:.0f}",
            f"{implementation.wrong_queries} of {QUERIES // implementation.query_divisor}",
        ]
        for implementation in implementations
    ]
    head = [
        "",
        "median s",
        "fastest s",
        "slowest s",
        "peak memory MiB",
        "queries with another result than float64 brute force",
    ]
    return (
        f"{QUERIES:,} queries x {ROWS:,} rows x {COLUMNS} columns, k = {K}; medians of {repeats} searches, in turn. "
        "Peak memory: the highest resident size of the implementation's own process during its searches, minus its "
        "size before the first one (with libraries and tables loaded).\n\n" + format_table(head, rows)
    )
