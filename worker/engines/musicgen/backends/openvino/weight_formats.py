"""The decoder's weight matrices as constants of OpenVINO's graph, in the format of each precision."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset16 as ops
from openvino.op import Constant

MAX_INT8: Final = 127
MAX_INT4: Final = 15
"""The largest unsigned number of four bits."""
INT4_GROUP: Final = 64
"""How many weights of a row share one scale. If a row cannot be divided into such groups, the whole row shares one
scale."""

Matrix = NDArray[np.float32]
"""A matrix of weights, shape (outputs, inputs)."""


def make_float_weights(matrix: Matrix) -> Any:
    """Make a float32 constant of the matrix; for bfloat16, OpenVINO rounds the matrix when it compiles the graph."""
    return ops.constant(matrix, shared_memory=True)


def make_int8_weights(matrix: Matrix) -> Any:
    """Quantize a matrix to signed bytes with one scale per output.

    OpenVINO multiplies the bytes by the scales while it computes the product with the matrix.
    """
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / MAX_INT8
    rounded = np.rint(matrix / scales).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(rounded), "f32"), ops.constant(scales.astype(np.float32)))


def make_int4_weights(matrix: Matrix) -> Any:
    """Quantize a matrix to unsigned numbers of four bits, with one scale and one zero point per group of inputs."""
    outputs, inputs = matrix.shape
    group = INT4_GROUP if inputs % INT4_GROUP == 0 else inputs
    grouped = matrix.reshape(outputs, inputs // group, group)
    # The range of each group includes 0. So 0 is represented exactly, and the zero point fits into four bits.
    low = np.minimum(grouped.min(axis=2, keepdims=True), 0)
    high = np.maximum(grouped.max(axis=2, keepdims=True), 0)
    scales = np.maximum(high - low, np.finfo(np.float32).tiny) / np.float32(MAX_INT4)
    zero_points = np.clip(np.rint(-low / scales), 0, MAX_INT4).astype(np.uint8)
    quantized = np.clip(np.rint(grouped / scales) + zero_points, 0, MAX_INT4).astype(np.uint8)
    shifted = ops.subtract(ops.convert(_make_uint4(quantized), "f32"), ops.convert(_make_uint4(zero_points), "f32"))
    scaled = ops.multiply(shifted, ops.constant(scales.astype(np.float32)))
    return ops.reshape(scaled, ops.constant(np.array(matrix.shape, dtype=np.int64)), special_zero=False)


WEIGHT_FORMATS: Final[dict[str, Callable[[Matrix], Any]]] = {
    "float32": make_float_weights,
    "bfloat16": make_float_weights,
    "int8": make_int8_weights,
    "int4": make_int4_weights,
}
"""For each precision, the function that makes the constant of a matrix in this precision."""


def _make_uint4(values: NDArray[np.uint8]) -> Any:
    """Make a constant of OpenVINO's type u4: a byte holds two numbers, the first number in the low half."""
    flat = values.ravel()
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    packed = flat[0::2] | (flat[1::2] << 4)
    # By default the constant would use the memory of ``packed`` without keeping ``packed`` alive.
    return Constant(ov.Tensor(packed, ov.Shape(values.shape), ov.Type.u4), shared_memory=False)
