"""Weight matrices in the formats of OpenVINO: a product with such a matrix uses the expected rounded weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset16 as ops

from worker.engines.musicgen.backends.openvino import weight_formats

Matrix = NDArray[np.float32]


def draw_matrices() -> dict[str, Matrix]:
    random = np.random.default_rng(0)
    plain = random.standard_normal((8, 128), dtype=np.float32)
    positive = random.uniform(1, 2, (8, 128)).astype(np.float32)
    return {
        "two groups": plain,
        "three groups": random.standard_normal((4, 192), dtype=np.float32),
        "one group": random.standard_normal((5, 96), dtype=np.float32),
        "odd size": random.standard_normal((3, 5), dtype=np.float32),
        "large and small rows": plain * np.float32(10) ** np.arange(-6, 2, dtype=np.float32)[:, None],
        "half zeros": plain * (np.arange(128) >= 70),
        "zeros": np.zeros_like(plain),
        "positive": positive,
        "negative": -positive,
        "far from zero": positive + 10,
        "all the same": np.full_like(positive, 0.3),
    }


each_matrix = pytest.mark.parametrize("matrix", draw_matrices().values(), ids=draw_matrices())


def decompress(make_weights: Callable[[Matrix], Any], matrix: Matrix) -> Matrix:
    """Return the weights that OpenVINO uses: multiply the identity matrix by the matrix, as in the decoder."""
    rows = ops.parameter([-1, matrix.shape[1]], np.float32)
    product = ops.matmul(rows, make_weights(matrix), transpose_a=False, transpose_b=True)
    model = ov.Model([ops.result(product)], [rows], "matrix")
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}
    compiled = ov.Core().compile_model(model, "CPU", options)
    found: Matrix = compiled([np.eye(matrix.shape[1], dtype=np.float32)])[0].T
    return found


@each_matrix
def test_int8_changes_each_weight_by_at_most_half_the_scale_of_its_row(matrix: Matrix) -> None:
    step = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.rint(matrix / step)) * step
    found = decompress(weight_formats.make_int8_weights, matrix)
    np.testing.assert_array_equal(found, expected)
    assert (np.abs(found - matrix) <= 0.501 * step).all()


@each_matrix
def test_int4_changes_each_weight_by_at_most_half_the_scale_of_its_group(matrix: Matrix) -> None:
    inputs = matrix.shape[1]
    groups = matrix.reshape(len(matrix), -1, 64 if inputs % 64 == 0 else inputs)
    # The range of each group includes zero, so that zero is represented exactly.
    low, high = (groups.min(axis=2, keepdims=True, initial=0), groups.max(axis=2, keepdims=True, initial=0))
    step = (high - low) / np.float32(15)
    with np.errstate(invalid="ignore"):
        zero_point = np.nan_to_num(np.rint(-low / step))
        expected = (np.clip(np.nan_to_num(np.rint(groups / step)) + zero_point, 0, 15) - zero_point) * step
    found = decompress(weight_formats.make_int4_weights, matrix)
    assert (np.abs(found.reshape(groups.shape) - groups) <= 0.501 * step).all()
    np.testing.assert_array_equal(found, expected.reshape(matrix.shape))
