"""The decoder's matrices as OpenVINO's graph holds them, in the numbers that a precision asks for."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset16 as ops
from openvino.op import Constant

MAX_INT8: Final = 127
INT4_GROUP: Final = 64
"""How many weights of a row share a scale; fewer where a row cannot be divided by it."""

Matrix = NDArray[np.float32]
"""Shape (outputs, inputs)."""


def hold_whole(matrix: Matrix) -> Any:
    """Hold a matrix as it is; what computes in bfloat16 rounds it when it is compiled."""
    return ops.constant(matrix, shared_memory=True)


def hold_int8(matrix: Matrix) -> Any:
    """Hold a matrix as signed bytes with a scale per output, which the product undoes while it reads them."""
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / MAX_INT8
    rounded = np.rint(matrix / scales).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(rounded), "f32"), ops.constant(scales.astype(np.float32)))


def hold_int4(matrix: Matrix) -> Any:
    """Hold a matrix as nibbles with a scale and a middle per group of inputs."""
    outputs, inputs = matrix.shape
    group = INT4_GROUP if inputs % INT4_GROUP == 0 else inputs
    grouped = matrix.reshape(outputs, inputs // group, group)
    # The range takes 0 in, which is exact then, and without which the middle would not be a nibble.
    low = np.minimum(grouped.min(axis=2, keepdims=True), 0)
    high = np.maximum(grouped.max(axis=2, keepdims=True), 0)
    scales = np.maximum(high - low, np.finfo(np.float32).tiny) / np.float32(15)
    middles = np.clip(np.rint(-low / scales), 0, 15).astype(np.uint8)
    nibbles = np.clip(np.rint(grouped / scales) + middles, 0, 15).astype(np.uint8)
    shifted = ops.subtract(ops.convert(_pack(nibbles), "f32"), ops.convert(_pack(middles), "f32"))
    scaled = ops.multiply(shifted, ops.constant(scales.astype(np.float32)))
    return ops.reshape(scaled, ops.constant(np.array(matrix.shape, dtype=np.int64)), special_zero=False)


HOLDERS: Final[dict[str, Callable[[Matrix], Any]]] = {
    "float32": hold_whole,
    "bfloat16": hold_whole,
    "int8": hold_int8,
    "int4": hold_int4,
}
"""Precision to how a matrix is held."""


def _pack(nibbles: NDArray[np.uint8]) -> Any:
    """Pack nibbles two to a byte, the first one low, as OpenVINO's u4 has them."""
    flat = nibbles.ravel()
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    packed = flat[0::2] | (flat[1::2] << 4)
    # By itself it would share the memory, and not hold it.
    return Constant(ov.Tensor(packed, ov.Shape(nibbles.shape), ov.Type.u4), shared_memory=False)
