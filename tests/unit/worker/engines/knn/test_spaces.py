"""The space of each metric has the properties that the search relies on."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from shared.errors import JobFailedError
from shared.kinds.knn.parameters import KnnParams
from tests.unit.worker.engines.knn.reference import METRICS, find_distances, name_metric
from worker.engines.knn import bhattacharyya, euclidean, hamming, mahalanobis, minkowski
from worker.engines.knn.cells import Cells
from worker.engines.knn.metrics import build_space
from worker.engines.knn.space import Space

Floats = NDArray[np.float64]
SKEWS = [np.zeros(6), np.arange(-3.0, 9.0, 2.0), np.full(6, 30.0), np.full(6, -30.0)]


def compare(cells: Cells, space: Space) -> tuple[Floats, Floats]:
    """Return the closeness of each query to all rows, and to the padding row that fills up the last block."""
    rows = np.vstack([space.rows, np.tile(space.pad, (64 - len(space.rows) % 64, 1))])
    closeness, _ = cells.compare(space.order, space.queries[None], rows[None])
    table = np.asarray(closeness[0], np.float64)
    return table[:, : len(space.rows)], table[:, len(space.rows)]


def measure_all(space: Space) -> Floats:
    of, to = np.indices((len(space.queries), len(space.rows))).reshape(2, -1)
    return space.measure(of, to).reshape(len(space.queries), len(space.rows))


@pytest.mark.parametrize("skew", SKEWS, ids=["one scale", "many scales", "huge", "tiny"])
@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_the_error_of_the_closeness_is_within_the_bound(metric: dict[str, Any], skew: Floats, cells: Cells) -> None:
    """The closeness of a farther row exceeds the closeness of a nearer row by at most twice the error."""
    params = KnnParams.model_validate(metric)
    if params.p == 32:
        skew = np.minimum(skew, 8)  # with larger values, float64 would overflow
    table = np.random.default_rng(1).random((230, 6)) * 10.0**skew
    space = build_space(params, table[:200], table[200:])
    closeness, _ = compare(cells, space)
    order = np.argsort(measure_all(space), axis=1)
    ranked = np.take_along_axis(closeness, order, axis=1)
    best_behind = np.maximum.accumulate(ranked[:, ::-1], axis=1)[:, ::-1]
    assert (best_behind - ranked <= 2 * space.error[:, None]).all()


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_the_padding_row_is_no_closer_than_any_real_row(metric: dict[str, Any], cells: Cells) -> None:
    table = np.random.default_rng(2).random((230, 6))
    closeness, pad = compare(cells, build_space(KnnParams.model_validate(metric), table[:200], table[200:]))
    assert (pad[:, None] <= closeness).all()


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_distances_equal_those_of_scipy(metric: dict[str, Any]) -> None:
    params = KnnParams.model_validate(metric)
    table = np.random.default_rng(3).random((60, 5))
    space = build_space(params, table[:50], table[50:])
    np.testing.assert_allclose(measure_all(space), find_distances(params, table[:50], table[50:]), rtol=1e-9)


@pytest.mark.parametrize("metric", METRICS, ids=name_metric)
def test_a_distance_does_not_depend_on_the_pairs_measured_in_the_same_call(metric: dict[str, Any]) -> None:
    """A pair has the same distance to the last bit, whether it is measured alone or together with other pairs.

    Otherwise rows that are equally far away could get different distances, which would change their order.
    """
    table = np.random.default_rng(8).random((60, 13))
    space = build_space(KnnParams.model_validate(metric), table[:50], table[50:])
    together = measure_all(space)
    for of, to in np.ndindex(10, 50):
        assert space.measure(np.array([of]), np.array([to])) == together[of, to]


@pytest.mark.parametrize("offset", [0, 1e6])
def test_the_euclidean_error_bound_is_small_compared_with_the_squared_distances(offset: float) -> None:
    """With a large error bound, every row would be a candidate, and the search would be exact but slow."""
    table = offset + np.random.default_rng(4).standard_normal((2_000, 64))
    space = euclidean.build(table, table[:100])
    assert space.error.max() < 1e-4 * np.square(measure_all(space)).max()


def test_mahalanobis_distances_use_the_pseudo_inverse_if_the_covariance_is_singular() -> None:
    rng = np.random.default_rng(5)
    table = rng.random((80, 4))
    table = np.column_stack([table, table[:, 0] + table[:, 1], np.full(80, 7.0)])
    space = mahalanobis.build(table[:60], table[60:])
    inverse = np.linalg.pinv(np.cov(table[:60], rowvar=False), rcond=1e-10, hermitian=True)
    expected = cdist(table[60:], table[:60], "mahalanobis", VI=inverse)
    np.testing.assert_allclose(measure_all(space), expected, rtol=1e-8)


def test_attributes_of_different_scale_do_not_make_the_mahalanobis_covariance_singular() -> None:
    rng = np.random.default_rng(6)
    plain = rng.random((60, 3))
    scaled = plain * np.array([1e-12, 1.0, 1e12])
    expected = measure_all(mahalanobis.build(plain, plain))
    np.testing.assert_allclose(measure_all(mahalanobis.build(scaled, scaled)), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("training", [np.ones((1, 3)), np.ones((5, 3))], ids=["one row", "equal rows"])
def test_mahalanobis_distances_are_zero_if_all_training_rows_are_equal(training: Floats) -> None:
    assert (measure_all(mahalanobis.build(training, np.eye(3))) == 0).all()


@pytest.mark.parametrize("count", [3, 400], ids=["few values", "many values"])
def test_hamming_distances_are_exact_with_indicators_and_with_codes(count: int, cells: Cells) -> None:
    """Few different values are compared by indicators, many different values by codes; both are exact."""
    rng = np.random.default_rng(7)
    table = rng.integers(0, count, (220, 5)).astype(np.float64)
    space = hamming.build(table[:200], table[200:])
    assert (space.order is None) == (count == 3)
    closeness, _ = compare(cells, space)
    expected = cdist(table[200:], table[:200], "hamming")
    unequal = 5 - closeness if space.order is None else -closeness
    np.testing.assert_array_equal(unequal / 5, expected)
    np.testing.assert_array_equal(measure_all(space), expected)


def test_the_bhattacharyya_distance_of_rows_without_overlap_is_infinite() -> None:
    space = bhattacharyya.build(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 2.0]]))
    np.testing.assert_allclose(measure_all(space), [[np.inf, np.log(2) / 2]])


@pytest.mark.parametrize("row", [[-1e-9, 1.0], [0.0, 0.0]], ids=["negative", "only zeros"])
def test_the_bhattacharyya_distance_refuses_rows_that_are_not_distributions(row: list[float]) -> None:
    with pytest.raises(JobFailedError, match="another metric") as failure:
        bhattacharyya.build(np.ones((3, 2)), np.array([row]))
    assert failure.value.type == "negative-values"


def test_the_minkowski_distance_refuses_values_whose_powers_exceed_float64() -> None:
    with pytest.raises(JobFailedError, match="smaller p") as failure:
        minkowski.build(np.eye(2) * 1e20, np.eye(2), 32)
    assert failure.value.type == "values-too-large"
