"""Exact nearest neighbours: candidates from float32 tiles, settled in float64.

For a block of queries, one tile after another compares them with a part of the
training rows. A tile comes with its block maxima; the k-th largest of these is
reached by k different rows, so that the k-th nearest row is at least that
close, give or take the error of a tile. Only blocks whose maximum comes within
twice the error of it can hold a neighbour, and in them only the entries that do.
Those few pairs are measured in float64 and sorted by distance and index.
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
    """The k nearest rows of each of q queries, nearest first, equal distances by index.

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
    """Finds neighbours within a working memory.

    Parameters
    ----------
    cells
        The compiled tiles.
    budget_bytes
        Working memory: a tile and the entries selected from it. The tables
        themselves come on top.
    """

    cells: Cells
    budget_bytes: int

    def plan(self, space: Space, k: int) -> Plan:
        """Plan the search of a space."""
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
            At most the number of rows, or one less when each leaves itself out.
        advance
            Called after every tile with the number of queries done.
        leave_one_out
            Queries are the training rows themselves, and none is its own neighbour.
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
                del closeness, peaks  # two tiles at once would be over the plan
                advance(first)
            found.rows[part], found.distances[part] = block.finish()
            advance(part.stop)
        return found

    def find_stacked(self, spaces: Sequence[Space], k: int, advance: Callable[[int], None]) -> Iterator[Neighbours]:
        """Find the neighbours in each of several spaces that a single tile can hold together.

        Calling the device costs more than a small tile does, so that small
        folds share one. Spaces that do not fit each other are searched singly.

        Parameters
        ----------
        spaces
            As many as ``plan(space, k).stacked`` allows, of any of them.
        k
            At most the number of rows of each.
        advance
            Called after every space with the number of queries done since the last.
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
    """The search for a block of queries, tile by tile.

    It keeps the closeness of the k leading rows of each query, as far as tiles
    have shown it. Every value kept is reached by a row of its own, so that the
    k-th nearest row is at least as close as the least of them, up to the error.
    """

    def __init__(self, space: Space, queries: slice, k: int, max_pairs: int, *, leave_one_out: bool) -> None:
        self._first = queries.start
        self._count = queries.stop - queries.start
        self._rows = len(space.rows)
        self._leave_one_out = leave_one_out
        self._max_pairs = max_pairs
        # A query that is itself a row is its own nearest row, and does not count as a neighbour.
        self._leading = np.full((self._count, k + leave_one_out), -np.inf, np.float32)
        self._margin = 2 * space.error[queries]
        self._bound: Operand = self._leading[:, 0]
        self._shortlist = Shortlist(space, first=self._first, count=self._count, k=k, max_pairs=max_pairs)

    def take(self, closeness: Operand, peaks: Operand, start: int) -> None:
        """Take in a tile whose first row has the index ``start``."""
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
        """Return rows and distances of the neighbours, shapes (count, k)."""
        return self._shortlist.finish(self._bound)

    def _raise_bound(self, closeness: Operand, peaks: Operand) -> None:
        """Raise the bound by a tile's block maxima, or by all entries if there are fewer than k blocks."""
        k = self._leading.shape[1]
        values = peaks if peaks.shape[1] >= k else closeness
        leading = np.concatenate([self._leading, values], axis=1)
        leading.partition(-k, axis=1)
        self._leading = leading[:, -k:].copy()
        with np.errstate(over="ignore"):  # an error beyond float32: nothing is out of reach
            bound = (self._leading[:, 0] - self._margin).astype(np.float32)
        self._bound = np.nextafter(bound, np.float32(-np.inf))  # rounding must not raise it


def _fit(part: Operand, count: int, pad: Operand | float) -> Operand:
    """Pad an operand to ``count`` rows, if it has fewer."""
    if len(part) == count:
        return part
    fitted = np.empty((count, part.shape[1]), np.float32)
    fitted[: len(part)] = part
    fitted[len(part) :] = pad
    return fitted


def _select(closeness: Operand, peaks: Operand, bound: Operand, max_pairs: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the positions (query, column) at which a tile reaches the bound, in blocks."""
    blocks = closeness.reshape(len(peaks), -1, BLOCK_ROWS)
    of, hits = np.nonzero(peaks >= bound[:, None])
    step = max(1, max_pairs // BLOCK_ROWS)
    for start in range(0, len(of), step):
        queries, places = of[start : start + step], hits[start : start + step]
        which, lanes = np.nonzero(blocks[queries, places] >= bound[queries, None])
        yield queries[which], places[which] * BLOCK_ROWS + lanes
