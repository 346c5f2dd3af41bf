"""Plans of a search stay within the memory budget, and use tiles of few different shapes."""

import numpy as np
import pytest

from shared.kinds.knn.parameters import KnnParams
from worker.engines.knn.cells import Cells
from worker.engines.knn.metrics import build_space
from worker.engines.knn.search import Finder
from worker.engines.knn.space import Operand
from worker.engines.knn.tiles import BLOCK_ROWS, plan_tiles, round_queries, round_rows

SIZES = [(1, 177), (50, 128), (1_000, 100_000), (100_000, 100_000), (3, 10_000_000)]


@pytest.mark.parametrize("order", [None, 3.0])
@pytest.mark.parametrize("budget_bytes", [1 << 20, 16 << 20, 256 << 20, 4 << 30])
@pytest.mark.parametrize(("queries", "rows"), SIZES)
@pytest.mark.parametrize("k", [1, 100])
@pytest.mark.parametrize("width", [2, 300])
def test_a_plan_is_within_its_budget(  # noqa: PLR0913, PLR0917 - every size that a plan depends on
    order: float | None, budget_bytes: int, queries: int, rows: int, k: int, width: int
) -> None:
    plan = plan_tiles(queries=queries, rows=rows, width=width, k=k, order=order, budget_bytes=budget_bytes)
    assert plan.max_bytes <= budget_bytes
    tile_bytes = 4 * plan.stacked * plan.query_rows * plan.training_rows
    assert tile_bytes < plan.max_bytes
    assert plan.training_rows % BLOCK_ROWS == 0
    assert plan.pairs >= BLOCK_ROWS


def test_the_smallest_plan_is_one_query_and_one_block() -> None:
    plan = plan_tiles(queries=100, rows=10_000, width=10, k=5, order=None, budget_bytes=1)
    assert (plan.query_rows, plan.training_rows, plan.pairs, plan.stacked) == (1, BLOCK_ROWS, BLOCK_ROWS, 1)


def test_a_fold_of_the_wine_data_fits_one_tile_and_all_folds_share_a_tile() -> None:
    plan = plan_tiles(queries=1, rows=177, width=14, k=5, order=None, budget_bytes=64 << 20)
    assert (plan.query_rows, plan.training_rows) == (1, 192)
    assert plan.stacked >= 178


def test_sizes_are_rounded_to_few_shapes() -> None:
    assert len({round_queries(count) for count in range(1, 1_025)}) == 11
    assert len({round_rows(count) for count in range(1, 16_385)}) == 16
    for count in range(1, 5_000):
        assert count <= round_queries(count) < 2 * count
        assert count <= round_rows(count) < 1.5 * count + BLOCK_ROWS
        assert round_rows(count) % BLOCK_ROWS == 0


class CountingCells(Cells):
    """Records the size of the largest tile, in bytes."""

    largest = 0

    def compare(self, order: float | None, queries: Operand, rows: Operand) -> tuple[Operand, Operand]:
        tile = super().compare(order, queries, rows)
        self.largest = max(self.largest, sum(array.nbytes for array in (*tile, queries, rows)))
        return tile


@pytest.mark.parametrize("budget_bytes", [64 << 10, 1 << 20])
def test_the_largest_tile_stays_within_the_budget(budget_bytes: int) -> None:
    table = np.random.default_rng(1).random((1_500, 9))
    space = build_space(KnnParams(), table, table[:130])
    cells = CountingCells()
    Finder(cells, budget_bytes).find(space, 5, lambda _: None)
    assert 0 < cells.largest <= budget_bytes
