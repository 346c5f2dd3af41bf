"""How a search is cut into tiles, so that its working memory stays within a budget.

A tile holds the closeness of some queries to some training rows, in float32. A candidate is a pair of a query and a row
that may be a neighbour of the query; the search selects candidates from each tile, and measures them in float64. See
`search` for both.
"""

from dataclasses import dataclass
from typing import Final

BLOCK_ROWS: Final = 64
"""The number of training rows in a block, of which the device finds the maximum closeness.

A tile consists of whole blocks.
"""
MAX_TILE_QUERIES: Final = 1_024
MAX_TILE_ROWS: Final = 16_384
MIN_TILE_PAIRS: Final = BLOCK_ROWS
"""The lowest value of `Plan.pairs`."""
MAX_TILE_PAIRS: Final = 2**17
"""The highest value of `Plan.pairs`."""
MAX_PRODUCT_WORK: Final = 2**33
"""Limit on the multiplications in a tile of inner products; they take about half a second on two cores."""
MAX_DIFFERENCE_WORK: Final = 2**26
"""Limit on the terms of all norms in a tile of norms; they take about half a second on two cores."""
MAX_STACK_WORK: Final = 2**22
"""Limit on the multiplications, or the terms of norms, in a tile that several spaces share.

In a larger tile, the cost of calling the device is small compared with the work, so that sharing would save little.
"""
FLOAT32_BYTES: Final = 4
HIT_BYTES: Final = 24
"""Bytes for each query and each block of a tile.

They hold the maximum closeness of the block, whether this maximum is a hit (it reaches the bound that the closeness of
a neighbour must reach), and the position of the hit.
"""
PAIR_BYTES: Final = 128
"""Bytes for each candidate, including what sorting needs, but without the attributes of query and row."""


@dataclass(frozen=True)
class Plan:
    """The shape of the tiles of one search, and the memory that the search needs.

    Parameters
    ----------
    query_rows, training_rows
        The highest number of queries, and of training rows, in a tile.
    pairs
        The number of candidates that are measured at a time.
    stacked
        The number of spaces that may share a tile. Each of these spaces has about as many queries and training rows as
        the planned search. The number is 1 if the search shares no tile.
    max_bytes
        The working memory of the search: for a tile, its operands, its hits, the
        candidates, and the neighbours kept.
    """

    query_rows: int
    training_rows: int
    pairs: int
    stacked: int
    max_bytes: int


def plan_tiles(  # noqa: PLR0913 - the sizes of a search
    *, queries: int, rows: int, width: int, k: int, order: float | None, budget_bytes: int
) -> Plan:
    """Choose the tiles of a search.

    The sizes of tiles come from a small set, so that searches of similar size
    share compiled functions. The smallest plan has tiles of one query and one block;
    it is returned even if it exceeds the budget.

    Parameters
    ----------
    queries, rows
        The number of queries and of training rows.
    width
        The number of columns of the operands.
    k
        The number of neighbours to find for each query.
    order
        How a tile computes the closeness, see `space.Space.order`.
    budget_bytes
        The working memory that the search may use.
    """
    max_work = MAX_PRODUCT_WORK if order is None else MAX_DIFFERENCE_WORK
    # Each group of candidates, at most `MAX_TILE_PAIRS`, is sorted together with the neighbours kept so far. The number
    # of queries is limited so that the number of these neighbours, k for each query, is at most `MAX_TILE_PAIRS`, too.
    query_rows = min(MAX_TILE_QUERIES, round_queries(queries), round_queries(MAX_TILE_PAIRS // k))
    training_rows = min(MAX_TILE_ROWS, BLOCK_ROWS * _round_up(-(-rows // BLOCK_ROWS)))
    while query_rows * training_rows > BLOCK_ROWS and (
        _count_tile_bytes(query_rows, training_rows, width, k) > budget_bytes // 2
        or query_rows * training_rows * width > max_work
    ):
        if query_rows * BLOCK_ROWS >= training_rows:
            query_rows //= 2
        else:
            training_rows //= 2
    training_rows = min(training_rows, round_rows(rows))
    tile_bytes = _count_tile_bytes(query_rows, training_rows, width, k)
    stacked = 1
    if queries <= query_rows and rows <= training_rows:
        most = round_rows(rows + 1)  # the training parts of an evaluation differ in size by at most one row
        each_bytes = _count_tile_bytes(query_rows, most, width, k)
        stacked = max(1, min(MAX_STACK_WORK // (query_rows * most * width), budget_bytes // 2 // each_bytes))
        tile_bytes = max(tile_bytes, stacked * each_bytes if stacked > 1 else 0)
    pair_bytes = PAIR_BYTES + 24 * width  # a query, a row and their difference, float64
    pairs = max(MIN_TILE_PAIRS, min(MAX_TILE_PAIRS, (budget_bytes - tile_bytes) // pair_bytes))
    return Plan(query_rows, training_rows, pairs, stacked, tile_bytes + pairs * pair_bytes)


def round_queries(count: int) -> int:
    """Round a number of queries up to a power of two."""
    return _round_up(count)


def round_rows(count: int) -> int:
    """Round a number of rows up to whole blocks; the number of blocks is 2^n or three quarters of 2^n, for some n."""
    blocks = -(-count // BLOCK_ROWS)
    power = _round_up(blocks)
    return BLOCK_ROWS * (power // 4 * 3 if blocks <= power // 4 * 3 else power)


def _round_up(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _count_tile_bytes(query_rows: int, training_rows: int, width: int, k: int) -> int:
    """Count the bytes of a tile: closeness, hits, operands on the host and on the device, and the neighbours kept.

    The search takes the bound on the closeness of a neighbour from the k largest block maxima. If a tile has fewer
    than k blocks, all entries of the tile are copied and used in place of the block maxima.
    """
    entries = query_rows * training_rows
    copied = query_rows * min(training_rows, BLOCK_ROWS * k)
    operands = 2 * (query_rows + training_rows) * width
    return (
        FLOAT32_BYTES * (entries + copied + operands)
        + HIT_BYTES * (entries // BLOCK_ROWS)
        + PAIR_BYTES * query_rows * k
    )
