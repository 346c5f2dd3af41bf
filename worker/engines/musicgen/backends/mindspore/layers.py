"""What all networks have in common: the device and the precision in which they compute, and matrix products."""

import math
from dataclasses import dataclass
from typing import Any, Final

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

DTYPES: Final = {"float32": mindspore.float32, "float16": mindspore.float16, "bfloat16": mindspore.bfloat16}
"""Precision to MindSpore's dtype."""

MASKED: Final = -6e4
"""Added to the attention scores of masked positions; float16 holds no more than 65504."""

MAX_ROWS_UNSWAPPED: Final = 4
"""Up to so many rows, the CPU is fastest if it multiplies row by row; see `Linear`."""


@dataclass(frozen=True)
class Target:
    """The device and the precision in which a network computes.

    Parameters
    ----------
    device
        MindSpore's name for it: ``CPU``, ``GPU`` or ``Ascend``.
    precision
        A key of ``DTYPES``.
    """

    device: str = "CPU"
    precision: str = "float32"

    @property
    def dtype(self) -> Any:
        """MindSpore's dtype of the precision."""
        return DTYPES[self.precision]

    def to_device(self, values: NDArray[np.float32]) -> Tensor:
        """Make a tensor of weights in the device's memory; on the CPU, it shares the array's memory in float32."""
        tensor = self.to_tensor(np.ascontiguousarray(values))
        return tensor if self.device == "CPU" else tensor.move_to(self.device)

    def to_tensor(self, values: NDArray[np.float32]) -> Tensor:
        """Make a tensor of activations, in the precision."""
        tensor = Tensor.from_numpy(values)
        return tensor if self.precision == "float32" else tensor.astype(self.dtype)


def to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    """Return activations as float32; on the CPU without a copy if they are float32."""
    values = tensor if tensor.dtype == mindspore.float32 else tensor.astype(mindspore.float32)
    array: NDArray[np.float32] = values.asnumpy()
    return array


class Linear(nn.Cell):
    """Products of x, shape (rows, inputs), with weights as the model's files have them, shape (outputs, inputs).

    On the CPU, MindSpore's product of few rows with transposed weights runs at
    two thirds of the memory's speed. Of many rows it is far slower than the
    product with swapped operands (weights @ x.T), which takes as long for 16 rows
    as for 2: 104 ms against 593 for all of musicgen-small's layers and 16 rows,
    but 102 against 62 for 2.
    """

    def __init__(self, target: Target, rows: int) -> None:
        super().__init__()
        self.swapped = target.device == "CPU" and rows > MAX_ROWS_UNSWAPPED
        self.multiply = ops.MatMul(transpose_b=True)
        self.multiply_swapped = ops.MatMul()
        self.transpose = ops.Transpose()
        self.erf = ops.Erf()

    def construct(self, x: Any, w: Any) -> Any:
        """Return x @ w.T, shape (rows, outputs)."""
        if self.swapped:
            return self.transpose(self.multiply(w, x), (1, 0))
        return self.multiply(x, w)

    def feed_forward(self, x: Any, widen: Any, narrow: Any) -> Any:
        """Return two products with a GELU between, whose constants ``fold_gelu`` has multiplied into the weights."""
        if self.swapped:
            wide = self.multiply(widen, x)
            return self.transpose(self.multiply_swapped(narrow, wide * (self.erf(wide) + 1.0)), (1, 0))
        wide = self.multiply(x, widen)
        return self.multiply(wide * (self.erf(wide) + 1.0), narrow)


def fold_gelu(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the weights before or after a GELU, so that ``y * (1 + erf(y))`` is all that remains to compute."""
    return weights * np.float32(math.sqrt(0.5))
