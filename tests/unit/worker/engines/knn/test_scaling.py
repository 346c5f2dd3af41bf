import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from shared.kinds.knn.parameters import Normalisation
from worker.engines.knn import scaling
from worker.engines.knn.dataset import Dataset


@pytest.mark.parametrize(
    ("normalisation", "scaler"),
    [(Normalisation.ZSCORE, StandardScaler()), (Normalisation.MINMAX, MinMaxScaler())],
)
def test_scaling_equals_the_scaling_that_scikit_learn_fits_to_the_training_part(
    normalisation: Normalisation, scaler: StandardScaler | MinMaxScaler, wine: Dataset
) -> None:
    training, queries = wine.attributes[:128], wine.attributes[128:]
    fitted = scaling.fit(normalisation, training)
    assert fitted is not None
    expected = scaler.fit(training)
    np.testing.assert_allclose(fitted.apply(queries), expected.transform(queries), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalisation", [Normalisation.ZSCORE, Normalisation.MINMAX])
@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, 0.0])
def test_a_constant_attribute_is_divided_by_one(normalisation: Normalisation, value: float) -> None:
    fitted = scaling.fit(normalisation, np.full((7, 1), value))
    assert fitted is not None
    scaled = fitted.apply(np.array([[value], [value + 2]]))
    np.testing.assert_array_equal(scaled.ravel(), np.array([0, value + 2 - value]))


def test_minmax_scaling_maps_the_extremes_of_an_attribute_to_zero_and_one(wine: Dataset) -> None:
    fitted = scaling.fit(Normalisation.MINMAX, wine.attributes)
    assert fitted is not None
    scaled = fitted.apply(wine.attributes)
    assert (scaled.min(axis=0) == 0).all()
    assert (scaled.max(axis=0) == 1).all()


def test_no_scaling_is_fitted_if_normalisation_is_none(wine: Dataset) -> None:
    assert scaling.fit(Normalisation.NONE, wine.attributes) is None
