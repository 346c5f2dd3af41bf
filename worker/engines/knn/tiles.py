"""How a search is cut into tiles, so that its working memory stays under a budget."""

from dataclasses import dataclass
from typing import Final

BLOCK_ROWS: Final = 64
"""Training rows whose best closeness the device finds; tiles hold whole blocks."""
MAX_TILE_QUERIES: Final = 1_024
MAX_TILE_ROWS: Final = 16_384
MIN_TILE_PAIRS: Final = BLOCK_ROWS
MAX_TILE_PAIRS: Final = 2**17
MAX_PRODUCT_WORK: Final = 2**33
MAX_DIFFERENCE_WORK: Final = 2**26
"""Multiplications, or terms of a norm, in a tile: about half a second on two cores."""
MAX_STACK_WORK: Final = 2**22
"""The same for spaces that share a tile; beyond it, the cost of calling the device is small compared with the work."""
FLOAT32_BYTES: Final = 4
HIT_BYTES: Final = 24
"""A block maximum, whether it is a hit, and the hit's place."""
PAIR_BYTES: Final = 128
"""A candidate pair with what sorting it takes, the rows themselves apart."""


@dataclass(frozen=True)
class Plan:
    """The shape of the tiles of one search, and what they take.

    Parameters
    ----------
    query_rows, training_rows
        Rows of a tile's two operands, at most.
    pairs
        Candidate pairs settled at a time.
    stacked
        How many such spaces may share a tile.
    max_bytes
        The working memory that this comes to: the tile, its operands, the
        selection from it, the candidates, and the neighbours kept.
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

    Sizes come from a small set, so that searches of like size share compiled
    tiles. The least possible plan, one query and one block, is returned where
    even it is over the budget.

    Parameters
    ----------
    queries, rows
        How many queries and training rows there are.
    width
        Columns of the operands.
    k
        Neighbours to find for each query.
    order
        What a tile computes, see `Space`.
    budget_bytes
        The working memory allowed.
    """
    max_work = MAX_PRODUCT_WORK if order is None else MAX_DIFFERENCE_WORK
    # Neighbours kept are sorted again with every batch of candidates: no more of them than of those.
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
        most = round_rows(rows + 1)  # the training parts of an evaluation differ by a row
        each_bytes = _count_tile_bytes(query_rows, most, width, k)
        stacked = max(1, min(MAX_STACK_WORK // (query_rows * most * width), budget_bytes // 2 // each_bytes))
        tile_bytes = max(tile_bytes, stacked * each_bytes if stacked > 1 else 0)
    pair_bytes = PAIR_BYTES + 24 * width  # a query, a row and their difference, float64
    pairs = max(MIN_TILE_PAIRS, min(MAX_TILE_PAIRS, (budget_bytes - tile_bytes) // pair_bytes))
    return Plan(query_rows, training_rows, pairs, stacked, tile_bytes + pairs * pair_bytes)


def round_queries(count: int) -> int:
    """Round up to a power of two."""
    return _round_up(count)


def round_rows(count: int) -> int:
    """Round up to a number of blocks that is a power of two, or three quarters of one."""
    blocks = -(-count // BLOCK_ROWS)
    power = _round_up(blocks)
    return BLOCK_ROWS * (power // 4 * 3 if blocks <= power // 4 * 3 else power)


def _round_up(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _count_tile_bytes(query_rows: int, training_rows: int, width: int, k: int) -> int:
    """Count a tile's closeness, hits, operands here and on the device, and the neighbours kept.

    If a tile has fewer than k blocks, its entries are copied for the selection.
    """
    entries = query_rows * training_rows
    copied = query_rows * min(training_rows, BLOCK_ROWS * k)
    operands = 2 * (query_rows + training_rows) * width
    return (
        FLOAT32_BYTES * (entries + copied + operands)
        + HIT_BYTES * (entries // BLOCK_ROWS)
        + PAIR_BYTES * query_rows * k
    )
