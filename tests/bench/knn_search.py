"""Searches for the nearest rows in one way, whenever told to: a ``companion``.

The peers' ways run in an environment of their own, see ``peers.txt``::

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

from tests.bench.serving import read_peak_bytes, serve, write

QUERIES: Final = 1_000
ROWS: Final = 100_000
COLUMNS: Final = 64
K: Final = 10
LOOP_SHARE: Final = 10
"""The naive loop gets one query in so many, and its time is scaled up."""
BUDGET_BYTES: Final = 512 << 20
PAGE_BYTES: Final = resource.getpagesize()

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Search = Callable[[], Rows]


def make_tables() -> tuple[Floats, Floats]:
    """Make the rows, and the queries."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal((QUERIES, COLUMNS))


def prepare_ours(training: Floats, queries: Floats) -> Search:
    """Search as a job does, from the float64 tables on. Libraries are imported in their contender's process alone."""
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


WAYS: Final = {
    "mindjobs": prepare_ours,
    "scikit-learn": prepare_scikit_learn,
    "faiss": prepare_faiss,
    "loop": prepare_loop,
}


class SearchBench:
    """A way to search, and what can be measured of it."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._found = np.empty(0, np.int64)
        self._base_bytes = read_resident_bytes()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest size starts from here

    def time_search(self) -> dict[str, Any]:
        """Search once."""
        started_s = time.perf_counter()
        self._found = self._search()
        return {"search_s": time.perf_counter() - started_s}

    def store_found(self, path: str) -> dict[str, Any]:
        """Store what was found last; tell how much memory the searches took."""
        np.save(path, self._found)
        return {"grown_bytes": read_peak_bytes() - self._base_bytes}


def read_resident_bytes() -> int:
    """Read this process's resident size."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE_BYTES


def main() -> None:
    """Prepare, and search until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.knn_search")
    parser.add_argument("way", choices=WAYS)
    bench = SearchBench(WAYS[parser.parse_args().way](*make_tables()))
    write(rows=ROWS)
    serve(bench)


if __name__ == "__main__":
    main()
