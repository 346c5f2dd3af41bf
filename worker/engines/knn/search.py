"""Exact nearest neighbours: float32 tiles give candidates, which are measured in float64.

A tile holds the closeness of some queries to a part of the training rows; one tile
after another covers all training rows. The nearer a row is to the query, the larger
is its closeness, see `space.Space.order`. Together with each tile, the device returns
the maximum closeness of each block of `tiles.BLOCK_ROWS` rows.

Take one query. The k largest block maxima belong to k different rows. So the k-th
nearest row has at least the closeness of the k-th largest maximum, up to the error of
a tile. The *bound* of the query is the k-th largest maximum minus twice the error. A
neighbour has a closeness of at least the bound. So neighbours are searched for only
in blocks whose maximum reaches the bound, and in such a block only the rows whose own
closeness reaches the bound are *candidates*. The few pairs of the query and a candidate
are measured in float64, and sorted by distance and, if the distance is equal, by the
index of the row, counted from the row `Space.first` on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worker.engines.knn.cells import Cells
from worker.engines.knn.shortlist import Shortlist
from worker.engines.knn.space import Floats, Indices, Operand, Space
from worker.engines.knn.tiles import BLOCK_ROWS, Plan, plan_tiles, round_queries, round_rows


@dataclass(frozen=True)
class Neighbours:
    """The k nearest rows of each of q queries, nearest first; rows at equal distance are ranked as `Space.first` says.

    Parameters
    ----------
    rows
        Shape (q, k), int64: indices of training rows.
    distances
        Shape (q, k), float64.
    """

    rows: Indices
    distances: Floats


@dataclass(frozen=True)
class Finder:
    """Finds neighbours with a limited working memory.

    Parameters
    ----------
    cells
        The compiled tiles.
    budget_bytes
        The working memory for a tile and for the candidates selected from the tile. It
        does not include the tables of training rows and queries.
    """

    cells: Cells
    budget_bytes: int

    def plan(self, space: Space, k: int) -> Plan:
        """Plan the search for the k nearest rows in a space."""
        return plan_tiles(
            queries=len(space.queries),
            rows=len(space.rows),
            width=len(space.pad),
            k=k,
            order=space.order,
            budget_bytes=self.budget_bytes,
        )

    def find(self, space: Space, k: int, advance: Callable[[int], None], *, leave_one_out: bool = False) -> Neighbours:
        """Find the k nearest rows of every query.

        Parameters
        ----------
        space
            The training part, its queries and their metric.
        k
            At most the number of training rows; if ``leave_one_out`` is true, at most
            the number of training rows minus one.
        advance
            Called after every tile with the number of queries whose neighbours are found.
        leave_one_out
            Whether the queries are the training rows themselves. If so, no row counts as
            its own neighbour.
        """
        plan = self.plan(space, k)
        found = Neighbours(np.empty((len(space.queries), k), np.int64), np.empty((len(space.queries), k)))
        for first in range(0, len(space.queries), plan.query_rows):
            part = slice(first, min(first + plan.query_rows, len(space.queries)))
            block = _Block(space, part, k, plan.pairs, leave_one_out=leave_one_out)
            queries = _fit(space.queries[part], round_queries(part.stop - first), 0)
            for start in range(0, len(space.rows), plan.training_rows):
                rows = space.rows[start : start + plan.training_rows]
                rows = _fit(rows, min(round_rows(len(rows)), plan.training_rows), space.pad)
                closeness, peaks = self.cells.compare(space.order, queries[None], rows[None])
                block.take(closeness[0], peaks[0], start)
                del closeness, peaks  # two tiles at the same time would exceed the planned memory
                advance(first)
            found.rows[part], found.distances[part] = block.finish()
            advance(part.stop)
        return found

    def find_stacked(self, spaces: Sequence[Space], k: int, advance: Callable[[int], None]) -> Iterator[Neighbours]:
        """Find the neighbours in each of several spaces, which are computed together in a single tile.

        Calling the device costs more than computing a small tile, so the spaces of
        small folds share a tile. If the spaces differ in ``order`` or in the number of
        columns, each space is searched separately.

        Parameters
        ----------
        spaces
            At most ``plan(space, k).stacked`` spaces, where ``space`` is any of the spaces.
        k
            At most the number of training rows in each space.
        advance
            Called before the neighbours in a space are yielded, with the number of queries
            of this space whose neighbours are found.
        """
        if len({(space.order, len(space.pad)) for space in spaces}) > 1 or len(spaces) == 1:
            for space in spaces:
                yield self.find(space, k, advance)
            return
        query_rows = round_queries(max(len(space.queries) for space in spaces))
        training_rows = round_rows(max(len(space.rows) for space in spaces))
        closeness, peaks = self.cells.compare(
            spaces[0].order,
            np.stack([_fit(space.queries, query_rows, 0) for space in spaces]),
            np.stack([_fit(space.rows, training_rows, space.pad) for space in spaces]),
        )
        for number, space in enumerate(spaces):
            count = len(space.queries)
            block = _Block(space, slice(0, count), k, self.plan(space, k).pairs, leave_one_out=False)
            block.take(closeness[number], peaks[number], 0)
            advance(count)
            yield Neighbours(*block.finish())


class _Block:
    """The search for the neighbours of a block of queries, tile by tile.

    For each query, the k largest of the block maxima in all tiles so far are kept. If a
    tile has fewer than k blocks, all its entries are used in place of its block maxima.
    Each of the k values kept belongs to a different row. The bound of the query is the
    smallest of these values minus twice the error, see the docstring of the module.
    """

    def __init__(self, space: Space, queries: slice, k: int, max_pairs: int, *, leave_one_out: bool) -> None:
        self._first = queries.start
        self._count = queries.stop - queries.start
        self._rows = len(space.rows)
        self._leave_one_out = leave_one_out
        self._max_pairs = max_pairs
        # With leave-one-out, one of the values can belong to the query itself, which is also a row but not a neighbour.
        # So one more value is kept.
        self._leading = np.full((self._count, k + leave_one_out), -np.inf, np.float32)
        self._margin = 2 * space.error[queries]
        self._bound: Operand = self._leading[:, 0]
        self._shortlist = Shortlist(space, first=self._first, count=self._count, k=k, max_pairs=max_pairs)

    def take(self, closeness: Operand, peaks: Operand, start: int) -> None:
        """Find the candidates in a tile; ``start`` is the index of the first training row of the tile."""
        closeness, peaks = closeness[: self._count], peaks[: self._count]
        self._raise_bound(closeness, peaks)
        for queries, columns in _select(closeness, peaks, self._bound, self._max_pairs):
            rows = columns + start
            wanted = rows < self._rows
            if self._leave_one_out:
                wanted &= rows != queries + self._first
            of, at = queries[wanted], columns[wanted]
            self._shortlist.add(of, rows[wanted], closeness[of, at], self._bound)

    def finish(self) -> tuple[Indices, Floats]:
        """Return rows and distances of the neighbours, shapes (count, k), nearest first."""
        return self._shortlist.finish(self._bound)

    def _raise_bound(self, closeness: Operand, peaks: Operand) -> None:
        """Raise the bound to what a tile shows: its block maxima or, if it has fewer than k blocks, all its entries."""
        k = self._leading.shape[1]
        values = peaks if peaks.shape[1] >= k else closeness
        leading = np.concatenate([self._leading, values], axis=1)
        leading.partition(-k, axis=1)
        self._leading = leading[:, -k:].copy()
        with np.errstate(over="ignore"):  # if the margin exceeds float32, the bound is -inf: no row is excluded
            bound = (self._leading[:, 0] - self._margin).astype(np.float32)
        self._bound = np.nextafter(bound, np.float32(-np.inf))  # rounding must not raise the bound


def _fit(part: Operand, count: int, pad: Operand | float) -> Operand:
    """Append rows ``pad`` to an operand that has fewer than ``count`` rows, up to this number."""
    if len(part) == count:
        return part
    fitted = np.empty((count, part.shape[1]), np.float32)
    fitted[: len(part)] = part
    fitted[len(part) :] = pad
    return fitted


def _select(closeness: Operand, peaks: Operand, bound: Operand, max_pairs: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the positions (query, column) at which the closeness reaches the bound, at most ``max_pairs`` at a time."""
    blocks = closeness.reshape(len(peaks), -1, BLOCK_ROWS)
    of, hits = np.nonzero(peaks >= bound[:, None])
    step = max(1, max_pairs // BLOCK_ROWS)
    for start in range(0, len(of), step):
        queries, places = of[start : start + step], hits[start : start + step]
        which, lanes = np.nonzero(blocks[queries, places] >= bound[queries, None])
        yield queries[which], places[which] * BLOCK_ROWS + lanes
