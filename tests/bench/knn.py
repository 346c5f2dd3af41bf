"""How fast the nearest of 100,000 rows are found, exactly, beside scikit-learn, faiss and the naive loop.

Every contender has a process of its own, so that neither its threads nor its
memory mix with another's; the processes take turns, one search at a time, so
that what the machine does meanwhile falls on all alike. Peak memory is the
process's highest resident size during the searches above its size before the
first, when libraries and data were loaded.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from tests.bench.section import Ratio, Section, count_repeats, write_table
from tests.bench.serving import read_peak_bytes

QUERIES: Final = 1_000
ROWS: Final = 100_000
COLUMNS: Final = 64
K: Final = 10
REPEATS: Final = 7
LOOP_SHARE: Final = 10
"""The naive loop gets one query in so many, and its time is scaled up."""
BUDGET_BYTES: Final = 512 << 20
AIM: Final = 1.0
"""No slower than the peers."""

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Search = Callable[[], Rows]


@dataclass
class Contender:
    """A way to search, and what was measured of it."""

    title: str
    prepare: Callable[[Floats, Floats], Search]
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
    ours = Contender("mindjobs, exact", prepare_ours)
    scikit_learn = Contender("scikit-learn, brute force, float64", prepare_scikit_learn)
    faiss = Contender("faiss, flat, float32", prepare_faiss)
    loop = Contender(f"one query at a time, MindSpore (1/{LOOP_SHARE} of them, scaled up)", prepare_loop, LOOP_SHARE)
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


def prepare_ours(training: Floats, queries: Floats) -> Search:
    """Search as a job does, from the float64 tables on. Libraries are imported in their contender's process alone."""
    import mindspore

    from shared.schemas.knn import KnnParams
    from worker.engines.knn.cells import Cells
    from worker.engines.knn.metrics import build_space
    from worker.engines.knn.search import Finder

    mindspore.set_device("CPU")
    finder = Finder(Cells(), BUDGET_BYTES)
    params = KnnParams()
    return lambda: finder.find(build_space(params, training, queries), K, lambda _: None).rows


def prepare_scikit_learn(training: Floats, queries: Floats) -> Search:
    """Search with scikit-learn's chunked brute force."""
    from sklearn.neighbors import NearestNeighbors

    def search() -> Rows:
        peer = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(training)
        return np.asarray(peer.kneighbors(queries, return_distance=False))

    return search


def prepare_faiss(training: Floats, queries: Floats) -> Search:
    """Search with faiss's flat index; the tables are float32 beforehand."""
    import faiss

    known, asked = training.astype(np.float32), queries.astype(np.float32)

    def search() -> Rows:
        index = faiss.IndexFlatL2(COLUMNS)
        index.add(known)
        return np.asarray(index.search(asked, K)[1])

    return search


def prepare_loop(training: Floats, queries: Floats) -> Search:
    """Search as textbooks do: tile the query to all rows, square, sum, root, take the top k."""
    import mindspore
    from mindspore import Tensor, ops

    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    known = Tensor(training.astype(np.float32))
    asked = Tensor(queries[: QUERIES // LOOP_SHARE].astype(np.float32))

    def search_one(query: Any) -> Any:
        difference = ops.tile(query, (ROWS, 1)) - known
        distances = ops.sqrt(ops.square(difference).sum(axis=1))
        return ops.topk(-distances, K)[1].asnumpy()

    return lambda: np.stack([search_one(query) for query in asked])


def find_by_brute_force(training: Floats, queries: Floats) -> Rows:
    """Find the neighbours by float64 distances and then by index, query by query."""
    found = np.empty((len(queries), K), np.int64)
    for number, query in enumerate(queries):
        distances = np.sqrt(np.square(training - query).sum(axis=1))
        found[number] = np.argsort(distances, kind="stable")[:K]
    return found


def _measure(contenders: list[Contender], repeats: int) -> None:
    """Let the contenders search in turn; the first round, which compiles and loads, is not timed."""
    with _start_all(contenders) as connections:
        for repeat in range(repeats + 1):
            for contender, connection in zip(contenders, connections, strict=True):
                connection.send("search")
                duration_s = connection.recv()
                if repeat:
                    contender.times_s.append(duration_s)
        expected = find_by_brute_force(*_make_tables())
        for contender, connection in zip(contenders, connections, strict=True):
            connection.send("finish")
            contender.peak_bytes, found = connection.recv()
            contender.wrong = int((found != expected[: len(found)]).any(axis=1).sum())


@contextmanager
def _start_all(contenders: list[Contender]) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for contender in contenders:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, contender.prepare), daemon=True)
        process.start()
        theirs.close()
        connections.append(ours)
        processes.append(process)
    try:
        yield connections
    finally:
        for connection, process in zip(connections, processes, strict=True):
            connection.close()
            process.join(timeout=10)
            process.kill()


def _serve(connection: Connection, prepare: Callable[[Floats, Floats], Search]) -> None:
    """Search whenever told to, in a process of its own."""
    search = prepare(*_make_tables())
    process = psutil.Process()
    base_bytes = process.memory_info().rss
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest size starts from here
    found = np.empty(0, np.int64)
    while connection.recv() == "search":
        started_s = time.perf_counter()
        found = search()
        connection.send(time.perf_counter() - started_s)
    connection.send((read_peak_bytes() - base_bytes, found))


def _make_tables() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal((QUERIES, COLUMNS))


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
