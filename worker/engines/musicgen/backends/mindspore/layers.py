"""What the networks have in common: where and in which numbers they compute, and matrix products."""

import math
from dataclasses import dataclass
from typing import Any, Final

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

FLOATS: Final = {"float32": mindspore.float32, "float16": mindspore.float16, "bfloat16": mindspore.bfloat16}

MASKED: Final = -6e4
"""Added to the score of what is not to be attended to; float16 holds no more than 65504."""

MAX_NARROW_ROWS: Final = 4
"""Up to so many rows the CPU multiplies fastest row by row."""


@dataclass(frozen=True)
class Target:
    """Where a network computes, and in which numbers.

    Parameters
    ----------
    device
        MindSpore's name for it: ``CPU``, ``GPU`` or ``Ascend``.
    precision
        A key of ``FLOATS``.
    """

    device: str = "CPU"
    precision: str = "float32"

    @property
    def floats(self) -> Any:
        """MindSpore's name for the numbers."""
        return FLOATS[self.precision]

    def hold(self, values: NDArray[np.float32]) -> Tensor:
        """Put weights where the network computes; on the CPU that is where they are."""
        tensor = self.send(np.ascontiguousarray(values))
        return tensor if self.device == "CPU" else tensor.move_to(self.device)

    def send(self, values: NDArray[np.float32]) -> Tensor:
        """Hand activations over."""
        tensor = Tensor.from_numpy(values)
        return tensor if self.precision == "float32" else tensor.astype(self.floats)


def take(tensor: Tensor) -> NDArray[np.float32]:
    """Take activations back as float32; on the CPU without a copy where they are."""
    values = tensor if tensor.dtype == mindspore.float32 else tensor.astype(mindspore.float32)
    array: NDArray[np.float32] = values.asnumpy()
    return array


class Linear(nn.Cell):
    """Products of x, shape (rows, inputs), with weights as the file has them, shape (outputs, inputs).

    On the CPU, MindSpore's product of few rows with transposed weights runs at
    two thirds of the memory's speed, and that of many rows far slower than the
    same product turned round, which takes as long for 16 rows as for 2: 104 ms
    against 593 for all of musicgen-small's layers and 16 rows, but 102 against
    62 for 2.
    """

    def __init__(self, target: Target, rows: int) -> None:
        super().__init__()
        self.turned = target.device == "CPU" and rows > MAX_NARROW_ROWS
        self.multiply = ops.MatMul(transpose_b=True)
        self.multiply_turned = ops.MatMul()
        self.transpose = ops.Transpose()
        self.erf = ops.Erf()

    def construct(self, x: Any, w: Any) -> Any:
        """Return x @ w.T, shape (rows, outputs)."""
        if self.turned:
            return self.transpose(self.multiply(w, x), (1, 0))
        return self.multiply(x, w)

    def feed_forward(self, x: Any, widen: Any, narrow: Any) -> Any:
        """Return two products with a GELU between, whose constants ``fold_gelu`` has put into the weights."""
        if self.turned:
            wide = self.multiply(widen, x)
            return self.transpose(self.multiply_turned(narrow, wide * (self.erf(wide) + 1.0)), (1, 0))
        wide = self.multiply(x, widen)
        return self.multiply(wide * (self.erf(wide) + 1.0), narrow)


def fold_gelu(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the weights before or after a GELU so that ``y * (1 + erf(y))`` is all that is left of it."""
    return weights * np.float32(math.sqrt(0.5))
