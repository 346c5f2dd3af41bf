"""The search finds the same neighbours as a brute-force search in float64, for every kind of table."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailedError
from shared.kinds.knn.parameters import KnnParams, Metric
from tests.unit.worker.engines.knn.reference import METRICS, find_distances, find_neighbours, name_metric
from worker.engines.knn import euclidean
from worker.engines.knn.cells import Cells
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.metrics import build_space
from worker.engines.knn.search import Finder, Neighbours
from worker.engines.knn.space import Operand, Space

Floats = NDArray[np.float64]
TINY_BYTES = 96 << 10


def make_random(rng: np.random.Generator) -> Floats:
    return rng.random((500, 7))


def make_ties(rng: np.random.Generator) -> Floats:
    return rng.integers(1, 4, (500, 4)).astype(np.float64)


def make_duplicates(rng: np.random.Generator) -> Floats:
    table: Floats = rng.random((25, 5))[rng.permutation(500) % 25]
    return table


def make_offset(rng: np.random.Generator) -> Floats:
    return 1e6 + 1e-2 * rng.standard_normal((500, 6))


def make_skewed(rng: np.random.Generator) -> Floats:
    return rng.random((500, 6)) * 10.0 ** np.arange(-3, 9, 2)


def make_drowned(rng: np.random.Generator) -> Floats:
    """Make an unscaled table with a large first attribute, which has only two values.

    The other attributes distinguish the rows, but are small compared with the first attribute.
    """
    return np.column_stack([1e4 * rng.integers(1, 3, 500), 5 * rng.random((500, 4))])


def make_tiny(rng: np.random.Generator) -> Floats:
    return rng.random((500, 5)) * 1e-60


def make_huge(rng: np.random.Generator) -> Floats:
    return rng.random((500, 5)) * 1e60


def make_far_queries(rng: np.random.Generator) -> Floats:
    table = 1 + rng.random((500, 4))
    table[460:] *= 1e9
    return table


MAKERS = [
    make_random,
    make_ties,
    make_duplicates,
    make_offset,
    make_skewed,
    make_drowned,
    make_tiny,
    make_huge,
    make_far_queries,
]


def ignore_progress(_: int) -> None:
    pass


def check(params: KnnParams, training: Floats, queries: Floats, found: Neighbours) -> None:
    k = found.rows.shape[1]
    distances = find_distances(params, training, queries)
    rows, nearest = find_neighbours(distances, k)
    if params.metric in (Metric.MAHALANOBIS, Metric.BHATTACHARYYA):
        # SciPy rounds in another way, so it can order rows at equal distance in another way. Therefore distances are
        # compared, not rows: at each rank, the row found must be as far away as the row that brute force finds.
        np.testing.assert_allclose(np.take_along_axis(distances, found.rows, axis=1), nearest, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.distances, nearest, rtol=1e-6, atol=1e-7)
        assert all(len(set(row)) == k for row in found.rows.tolist())
    else:
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_allclose(found.distances, nearest, rtol=1e-13)


@pytest.mark.parametrize("budget_bytes", [TINY_BYTES, 256 << 20], ids=["many tiles", "one tile"])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_neighbours_equal_those_of_brute_force(
    metric: dict[str, Any], make: Any, budget_bytes: int, cells: Cells
) -> None:
    params = KnnParams.model_validate(metric)
    table = make(np.random.default_rng(1))
    training, queries = table[:460], table[460:]
    if params.p == 32 and make is make_huge:
        with pytest.raises(JobFailedError) as caught:
            build_space(params, training, queries)
        assert caught.value.text.code == "powers-too-large"
        return
    space = build_space(params, training, queries)
    finder = Finder(cells, budget_bytes)
    check(params, training, queries, finder.find(space, 9, ignore_progress))


def make_orthogonal(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Make queries so far away that the rounding of the product is larger than the differences between the rows."""
    direction = np.full(4, 0.5)
    training = rng.standard_normal((400, 4))
    training -= np.outer(training @ direction, direction)
    return training, 1e6 * direction + 1e-3 * rng.standard_normal((60, 4))


def make_vanishing(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Make queries so far away that many rows have equal float64 distances, although their float32 products differ."""
    training = np.repeat([[-1.0], [1.0]], 200, axis=0) * (1 - rng.random((400, 1)) * 2.0**-11)
    return training, np.full((3, 1), 2.0**40)


@pytest.mark.parametrize("make", [make_orthogonal, make_vanishing])
def test_neighbours_equal_those_of_brute_force_if_queries_are_far_from_all_rows(make: Any, finder: Finder) -> None:
    training, queries = make(np.random.default_rng(8))
    found = finder.find(euclidean.build(training, queries), 9, ignore_progress)
    check(KnnParams(), training, queries, found)


class AdversarialCells(Cells):
    """Returns a closeness with the largest allowed error: too small for neighbours, and too large for all other rows.

    The operands contain only the number of each query and of each row. These numbers are the indices at which the
    closeness of a pair is read from a table.
    """

    def __init__(self, closeness: Floats, wrong: Floats) -> None:
        super().__init__()
        self._closeness = (closeness + wrong).astype(np.float32)

    def compare(self, order: float | None, queries: Operand, rows: Operand) -> tuple[Operand, Operand]:
        assert order is None
        tile = np.full((1, queries.shape[1], rows.shape[1]), -np.inf, np.float32)
        of, to = queries[0, :, 0].astype(int), rows[0, :, 0].astype(int)
        real = to >= 0
        tile[0][:, real] = self._closeness[np.ix_(of, to[real])]
        return tile, tile.reshape(1, queries.shape[1], -1, 64).max(axis=-1)


@pytest.mark.parametrize("budget_bytes", [TINY_BYTES, 256 << 20], ids=["many tiles", "one tile"])
@pytest.mark.parametrize("error", [0.0, 2.0**-6, 2.0**-3, 4.0])
def test_neighbours_are_exact_if_the_closeness_has_the_largest_allowed_error(error: float, budget_bytes: int) -> None:
    rng = np.random.default_rng(9)
    distances = rng.integers(0, 2**10, (40, 1_000)) / 2**10
    rows, nearest = find_neighbours(distances, 12)
    wrong = np.full(distances.shape, error)
    np.put_along_axis(wrong, rows, -error, axis=1)
    space = Space(
        order=None,
        queries=np.arange(40, dtype=np.float32)[:, None],
        rows=np.arange(1_000, dtype=np.float32)[:, None],
        pad=np.full(1, -1, np.float32),
        error=np.full(40, error),
        measure=lambda of, to: np.asarray(distances[of, to]),
    )
    found = Finder(AdversarialCells(-distances, wrong), budget_bytes).find(space, 12, ignore_progress)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.distances, nearest)


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_neighbours_in_unscaled_wine_data_equal_those_of_brute_force(
    metric: dict[str, Any], wine: Dataset, finder: Finder
) -> None:
    params = KnnParams.model_validate(metric)
    training, queries = wine.attributes[50:], wine.attributes[:50]
    check(params, training, queries, finder.find(build_space(params, training, queries), 11, ignore_progress))


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
@pytest.mark.parametrize("budget_bytes", [TINY_BYTES, 256 << 20], ids=["many tiles", "one tile"])
def test_every_row_is_a_neighbour_if_k_is_the_number_of_rows(
    metric: dict[str, Any], budget_bytes: int, cells: Cells
) -> None:
    params = KnnParams.model_validate(metric)
    table = make_ties(np.random.default_rng(2))
    training, queries = table[:150], table[150:160]
    found = Finder(cells, budget_bytes).find(build_space(params, training, queries), 150, ignore_progress)
    check(params, training, queries, found)


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
@pytest.mark.parametrize("make", [make_random, make_duplicates])
def test_a_row_is_not_its_own_neighbour_with_leave_one_out(metric: dict[str, Any], make: Any, cells: Cells) -> None:
    params = KnnParams.model_validate(metric)
    table = make(np.random.default_rng(3))[:200]
    space = build_space(params, table, table)
    found = Finder(cells, TINY_BYTES).find(space, 5, ignore_progress, leave_one_out=True)
    assert not (found.rows == np.arange(200)[:, None]).any()
    distances = find_distances(params, table, table)
    np.fill_diagonal(distances, np.inf)
    rows, nearest = find_neighbours(distances, 5)
    np.testing.assert_allclose(found.distances, nearest, atol=2e-7)
    if make is make_random and params.metric is not Metric.HAMMING:
        np.testing.assert_array_equal(found.rows, rows)


def test_rows_at_equal_distance_are_sorted_by_index_with_every_metric(finder: Finder) -> None:
    """The float64 distances of equal rows are equal to the last bit, so that the index decides the order."""
    table = make_duplicates(np.random.default_rng(4))
    training, queries = table[:400], table[400:]
    for metric in METRICS:
        space = build_space(KnnParams.model_validate(metric), training, queries)
        found = finder.find(space, 40, ignore_progress)
        same = found.distances[:, 1:] == found.distances[:, :-1]
        assert same.any()
        assert (found.rows[:, 1:] > found.rows[:, :-1])[same].all(), metric
        groups = [len(np.unique(training[row], axis=0)) for row in found.rows]
        lengths = [len(np.unique(row)) for row in found.distances]
        assert all(length <= group for length, group in zip(lengths, groups, strict=True)), metric


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_neighbours_in_stacked_spaces_equal_those_in_single_spaces(metric: dict[str, Any], finder: Finder) -> None:
    params = KnnParams.model_validate(metric)
    tables = [make_ties(np.random.default_rng(seed))[: 150 + seed] for seed in range(5)]
    spaces = [build_space(params, table[:140], table[140:]) for table in tables]
    reported: list[int] = []
    stacked = list(finder.find_stacked(spaces, 4, reported.append))
    assert reported == [len(space.queries) for space in spaces]
    for space, found in zip(spaces, stacked, strict=True):
        single = finder.find(space, 4, ignore_progress)
        np.testing.assert_array_equal(found.rows, single.rows)
        np.testing.assert_array_equal(found.distances, single.distances)


def test_spaces_of_different_width_are_searched_separately(finder: Finder) -> None:
    rng = np.random.default_rng(5)
    tables = [rng.random((60, 3)), rng.random((60, 4))]
    spaces = [build_space(KnnParams(), table, table[:7]) for table in tables]
    for table, found in zip(tables, finder.find_stacked(spaces, 3, ignore_progress), strict=True):
        check(KnnParams(), table, table[:7], found)


def test_progress_rises_to_the_number_of_queries(cells: Cells) -> None:
    table = make_random(np.random.default_rng(6))
    reported: list[int] = []
    Finder(cells, TINY_BYTES).find(build_space(KnnParams(), table, table[:90]), 3, reported.append)
    assert reported == sorted(reported)
    assert reported[-1] == 90
    assert len(reported) > 20


def test_a_search_that_needs_several_tiles_of_the_largest_size_is_exact(finder: Finder) -> None:
    rng = np.random.default_rng(7)
    training, queries = rng.standard_normal((40_000, 8)), rng.standard_normal((1_100, 8))
    space = build_space(KnnParams(), training, queries)
    plan = finder.plan(space, 10)
    assert plan.training_rows < 40_000
    assert plan.query_rows < 1_100
    found = finder.find(space, 10, ignore_progress)
    some = np.arange(0, 1_100, 20)
    check(KnnParams(), training, queries[some], Neighbours(found.rows[some], found.distances[some]))
