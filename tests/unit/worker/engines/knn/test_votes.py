import numpy as np
import pytest

from shared.kinds.knn.parameters import Weights
from worker.engines.knn.votes import average, elect, weigh


def test_the_class_with_the_most_votes_is_elected_or_the_lowest_class_if_votes_are_equal() -> None:
    labels = np.array([[2, 1, 2], [2, 1, 0], [1, 2, 2]])
    np.testing.assert_array_equal(elect(labels, np.ones((3, 3)), 3), [2, 0, 2])
    np.testing.assert_array_equal(elect(labels[:, :2], np.ones((3, 2)), 3), [1, 1, 1])


def test_distance_weights_are_the_inverse_distances() -> None:
    np.testing.assert_array_equal(weigh(np.array([[0.5, 2.0, 4.0]]), Weights.DISTANCE), [[2, 0.5, 0.25]])


def test_only_neighbours_at_distance_zero_count_if_there_are_any() -> None:
    np.testing.assert_array_equal(weigh(np.array([[0.0, 0.0, 1e-9]]), Weights.DISTANCE), [[1, 1, 0]])


def test_a_distance_counts_as_zero_if_its_inverse_overflows() -> None:
    np.testing.assert_array_equal(weigh(np.array([[5e-324, 1.0]]), Weights.DISTANCE), [[1, 0]])


@pytest.mark.parametrize(
    ("distances", "expected"), [([1.0, np.inf], [1, 0]), ([np.inf, np.inf], [1, 1])], ids=["some", "all"]
)
def test_infinitely_far_neighbours_count_only_if_all_neighbours_are_infinitely_far(
    distances: list[float], expected: list[int]
) -> None:
    np.testing.assert_array_equal(weigh(np.array([distances]), Weights.DISTANCE), [expected])


def test_weights_of_the_first_k_neighbours_do_not_depend_on_the_other_neighbours() -> None:
    distances = np.sort(np.random.default_rng(1).integers(0, 3, (50, 6)), axis=1).astype(np.float64)
    whole = weigh(distances, Weights.DISTANCE)
    for k in range(1, 7):
        np.testing.assert_array_equal(weigh(distances[:, :k], Weights.DISTANCE), whole[:, :k])


def test_the_prediction_of_a_value_is_the_weighted_mean_of_the_labels() -> None:
    np.testing.assert_allclose(average(np.array([[1.0, 4.0]]), np.array([[2.0, 1.0]])), [2])
