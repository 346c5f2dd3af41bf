"""The nearest rows found so far to a block of queries."""

import numpy as np
from numpy.typing import NDArray

from worker.engines.knn.space import Floats, Indices, Operand, Space


class Shortlist:
    """Collects candidate pairs: pairs of a query and a row that may be a neighbour of the query.

    From time to time, the collected pairs are settled: their distances are measured in
    float64, and for each query the k nearest rows of all pairs so far are kept.

    Parameters
    ----------
    space
        The queries and rows, and how their distances are measured.
    first
        The index of the first query of the block.
    count
        How many queries the block has.
    k
        The number of rows to keep for each query.
    max_pairs
        The number of collected pairs at which they are settled.
    """

    def __init__(self, space: Space, *, first: int, count: int, k: int, max_pairs: int) -> None:
        self._space = space
        self._first = first
        self._count = count
        self._k = k
        self._max_pairs = max_pairs
        self._waiting: list[tuple[Indices, Indices, Operand]] = []
        self._kept_queries: Indices = np.empty(0, np.int64)
        self._kept_rows: Indices = np.empty(0, np.int64)
        self._kept_distances: Floats = np.empty(0)

    def add(self, queries: Indices, rows: Indices, closeness: Operand, bound: Operand) -> None:
        """Add candidate pairs, shapes (m,); ``queries`` are counted from the first query of the block.

        ``bound``, shape (count,), is the bound of each query: a row whose closeness to
        the query is smaller than the bound cannot be a neighbour.
        """
        self._waiting.append((queries, rows, closeness))
        if sum(len(waiting) for waiting, _, _ in self._waiting) >= self._max_pairs:
            self._settle(bound)

    def finish(self, bound: Operand) -> tuple[Indices, Floats]:
        """Return rows and distances of the neighbours, shapes (count, k), nearest first."""
        self._settle(bound)
        shape = (self._count, self._k)
        return self._kept_rows.reshape(shape), self._kept_distances.reshape(shape)

    def _settle(self, bound: Operand) -> None:
        """Measure the waiting pairs; keep the k nearest rows of each query, ranked at equal distance by index."""
        if not self._waiting:
            return
        queries, rows, closeness = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        near = closeness >= bound[queries]
        queries, rows = queries[near], rows[near]
        distances = self._space.measure(queries + self._first, rows)
        queries = np.concatenate([self._kept_queries, queries])
        rows = np.concatenate([self._kept_rows, rows])
        distances = np.concatenate([self._kept_distances, distances])
        order = np.lexsort((self._rank_ties(queries, rows), distances, queries))
        kept = order[_rank(queries[order]) < self._k]
        self._kept_queries, self._kept_rows, self._kept_distances = queries[kept], rows[kept], distances[kept]

    def _rank_ties(self, queries: Indices, rows: Indices) -> Indices:
        """Return the rank of each row among those at the same distance from its query, see `Space.first`."""
        if self._space.first is None:
            return rows
        return np.asarray((rows - self._space.first[queries + self._first]) % len(self._space.rows))


def _rank(queries: Indices) -> NDArray[np.int64]:
    """Return, for each entry of the sorted ``queries``, its position, from 0, among the entries with the same value."""
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    lengths = np.diff(starts, append=len(queries))
    return np.arange(len(queries)) - np.repeat(starts, lengths)
