"""What all networks have in common: the device and the precision of the computation, and matrix products."""

import math
from dataclasses import dataclass
from typing import Any, Final

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

DTYPES: Final = {"float32": mindspore.float32, "float16": mindspore.float16, "bfloat16": mindspore.bfloat16}
"""For each precision, MindSpore's dtype."""

MASKED: Final = -6e4
"""Added to the attention scores of masked positions; the largest number in float16 is 65504."""

MAX_ROWS_UNSWAPPED: Final = 4
"""Up to this number of rows, products on the CPU are faster if their operands are not swapped; see `Linear`."""


@dataclass(frozen=True)
class Target:
    """The device and the precision in which a network computes.

    Parameters
    ----------
    device
        MindSpore's name of the device: ``CPU``, ``GPU`` or ``Ascend``.
    precision
        A key of ``DTYPES``.
    """

    device: str = "CPU"
    precision: str = "float32"

    @property
    def dtype(self) -> Any:
        """MindSpore's dtype for the precision."""
        return DTYPES[self.precision]

    def to_device(self, values: NDArray[np.float32]) -> Tensor:
        """Make a tensor of weights in the device's memory.

        On the CPU in float32, the tensor shares the memory of the array.
        """
        tensor = self.to_tensor(np.ascontiguousarray(values))
        return tensor if self.device == "CPU" else tensor.move_to(self.device)

    def to_tensor(self, values: NDArray[np.float32]) -> Tensor:
        """Make a tensor of activations, in the precision of this target."""
        tensor = Tensor.from_numpy(values)
        return tensor if self.precision == "float32" else tensor.astype(self.dtype)


def to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    """Return activations as a float32 array; on the CPU, activations that are float32 already are not copied."""
    values = tensor if tensor.dtype == mindspore.float32 else tensor.astype(mindspore.float32)
    array: NDArray[np.float32] = values.asnumpy()
    return array


class Linear(nn.Cell):
    """Multiplies x, shape (rows, inputs), by weights in the layout of the model's files, shape (outputs, inputs).

    On the CPU, MindSpore's product of few rows with transposed weights (x @ weights.T)
    runs at two thirds of the memory's speed. With many rows, this product is far slower
    than the product with swapped operands (weights @ x.T), whose time is the same for 2
    and for 16 rows. All layers of musicgen-small with 16 rows take 593 ms unswapped and
    104 ms swapped; with 2 rows they take 62 ms unswapped and 102 ms swapped.
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
        """Multiply by ``widen``, apply a GELU, and multiply by ``narrow``.

        `fold_gelu` has multiplied the constants of the GELU into both matrices.
        """
        if self.swapped:
            wide = self.multiply(widen, x)
            return self.transpose(self.multiply_swapped(narrow, wide * (self.erf(wide) + 1.0)), (1, 0))
        wide = self.multiply(x, widen)
        return self.multiply(wide * (self.erf(wide) + 1.0), narrow)


def fold_gelu(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a matrix that is multiplied just before or just after a GELU.

    If both matrices are scaled, the GELU is ``y * (1 + erf(y))``.
    """
    return weights * np.float32(math.sqrt(0.5))
