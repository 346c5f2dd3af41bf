"""Searches for the nearest rows with one implementation: a program that runs in a ``MeasuredProcess``.

The baselines scikit-learn and faiss run in an environment of their own, see ``baselines.txt``::

    python -m tests.bench.knn_search faiss
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.serving import print_figures, read_peak_bytes, serve_measurements

QUERIES: Final = 1_000
ROWS: Final = 100_000
COLUMNS: Final = 64
K: Final = 10
LOOP_QUERY_DIVISOR: Final = 10
"""The loop searches for only one query in ten, and its time is multiplied by ten."""
BUDGET_BYTES: Final = 512 << 20
PAGE_BYTES: Final = resource.getpagesize()

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Search = Callable[[], Rows]


def make_tables() -> tuple[Floats, Floats]:
    """Make the table of rows to search in, and the table of queries; both float64."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal((QUERIES, COLUMNS))


def prepare_ours(training: Floats, queries: Floats) -> Search:
    """Prepare to search as a job does; the timed part begins with the float64 tables.

    In this module, each function imports the libraries of its own implementation, so that only the process of this
    implementation loads them.
    """
    import mindspore

    from shared.kinds.knn.parameters import KnnParams
    from worker.engines.knn.cells import Cells
    from worker.engines.knn.metrics import build_space
    from worker.engines.knn.search import Finder

    mindspore.set_device("CPU")
    finder = Finder(Cells(), BUDGET_BYTES)
    params = KnnParams()
    return lambda: finder.find(build_space(params, training, queries), K, lambda _: None).rows


def prepare_scikit_learn(training: Floats, queries: Floats) -> Search:
    """Prepare to search with scikit-learn's chunked brute force."""
    from sklearn.neighbors import NearestNeighbors

    def search() -> Rows:
        index = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(training)
        return np.asarray(index.kneighbors(queries, return_distance=False))

    return search


def prepare_faiss(training: Floats, queries: Floats) -> Search:
    """Prepare to search with faiss's flat index; the tables are converted to float32 before the timed part."""
    import faiss

    training32, queries32 = training.astype(np.float32), queries.astype(np.float32)

    def search() -> Rows:
        index = faiss.IndexFlatL2(COLUMNS)
        index.add(training32)
        return np.asarray(index.search(queries32, K)[1])

    return search


def prepare_loop(training: Floats, queries: Floats) -> Search:
    """Prepare to search as in textbooks, one query at a time.

    The query is repeated for every row. The differences between query and rows are squared and summed, and the k rows
    with the smallest square roots of the sums are chosen.
    """
    import mindspore
    from mindspore import Tensor, ops

    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    rows = Tensor(training.astype(np.float32))
    some_queries = Tensor(queries[: QUERIES // LOOP_QUERY_DIVISOR].astype(np.float32))

    def search_one(query: Any) -> Any:
        difference = ops.tile(query, (ROWS, 1)) - rows
        distances = ops.sqrt(ops.square(difference).sum(axis=1))
        return ops.topk(-distances, K)[1].asnumpy()

    return lambda: np.stack([search_one(query) for query in some_queries])


IMPLEMENTATIONS: Final = {
    "mindjobs": prepare_ours,
    "scikit-learn": prepare_scikit_learn,
    "faiss": prepare_faiss,
    "loop": prepare_loop,
}


class SearchBench:
    """One implementation, with a method for each measurement."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._found = np.empty(0, np.int64)
        self._start_bytes = read_resident_bytes()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the highest resident size

    def time_search(self) -> dict[str, Any]:
        """Search once."""
        start_s = time.perf_counter()
        self._found = self._search()
        return {"search_s": time.perf_counter() - start_s}

    def store_found(self, path: str) -> dict[str, Any]:
        """Store the rows that the last search found; return how much memory the searches took."""
        np.save(path, self._found)
        return {"search_bytes": read_peak_bytes() - self._start_bytes}


def read_resident_bytes() -> int:
    """Return the resident size of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE_BYTES


def main() -> None:
    """Prepare one implementation, and run the requested measurements until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.knn_search")
    parser.add_argument("implementation", choices=IMPLEMENTATIONS)
    prepare = IMPLEMENTATIONS[parser.parse_args().implementation]
    bench = SearchBench(prepare(*make_tables()))
    print_figures(rows=ROWS)
    serve_measurements(bench)


if __name__ == "__main__":
    main()
