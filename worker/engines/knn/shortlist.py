"""The nearest rows found so far to a block of queries."""

import numpy as np
from numpy.typing import NDArray

from worker.engines.knn.space import Floats, Indices, Operand, Space


class Shortlist:
    """Collects candidate pairs, and settles them in float64 whenever enough have come.

    Parameters
    ----------
    space
        Where distances are measured.
    first
        Index of the block's first query.
    count
        How many queries the block has.
    k
        Neighbours to keep for each.
    max_pairs
        Pairs to hold unsettled.
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
        """Take candidate pairs, shapes (m,); queries count from the block's first.

        ``bound`` of shape (count,) is the closeness under which a row is known
        by now to be no neighbour.
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
        """Measure the waiting pairs and keep the k nearest of each query, lower index first."""
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
        order = np.lexsort((rows, distances, queries))
        kept = order[_rank(queries[order]) < self._k]
        self._kept_queries, self._kept_rows, self._kept_distances = queries[kept], rows[kept], distances[kept]


def _rank(queries: Indices) -> NDArray[np.int64]:
    """Count the entries of each run of equal values from 0."""
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    lengths = np.diff(starts, append=len(queries))
    return np.arange(len(queries)) - np.repeat(starts, lengths)
