import numpy as np
import pytest

from worker.engines.knn import cells as module
from worker.engines.knn.cells import Cells


def make_tile(width: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
    rng = np.random.default_rng(width)
    return (
        rng.random((2, 4, width)).astype(np.float32),
        rng.random((2, 128, width)).astype(np.float32),
    )


@pytest.mark.parametrize("order", [None, 0.0, 1.0, 3.0])
def test_each_block_of_rows_gets_its_maximum_closeness(order: float | None, cells: Cells) -> None:
    closeness, peaks = cells.compare(order, *make_tile(3))
    assert closeness.shape == (2, 4, 128)
    np.testing.assert_array_equal(peaks, closeness.reshape(2, 4, 2, 64).max(axis=-1))


def test_a_tile_does_not_change_while_other_tiles_are_computed() -> None:
    cells = Cells()
    closeness, _ = cells.compare(None, *make_tile(3))
    copy = closeness.copy()
    for width in range(4, 9):
        cells.compare(None, *make_tile(width))
    np.testing.assert_array_equal(closeness, copy)


def test_the_number_of_graphs_is_limited_and_freed_graphs_are_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GRAPHS", 3)
    cells = Cells()
    for width in [2, 3, 4, 5, 2, 3, 6]:
        queries, rows = make_tile(width)
        closeness, _ = cells.compare(None, queries, rows)
        np.testing.assert_allclose(closeness, queries @ rows.transpose(0, 2, 1), rtol=1e-5)
        assert len(cells._graphs) <= 3
