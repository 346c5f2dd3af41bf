"""EnCodec's layers as MindSpore cells; time runs along the last axis, of four: (1, channels, 1, length).

References
----------
Défossez et al. 2022, "High Fidelity Neural Audio Compression"; ``modeling_encodec.py`` of transformers.
"""

import math
from collections.abc import Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from worker.engines.musicgen.network.layers import Target
from worker.engines.musicgen.seanet import Convolution, Layer, Residual, Transposed
from worker.engines.musicgen.weights import Weights


def measure_padding(layer: Convolution) -> tuple[int, int]:
    """Return how many samples of padding a convolution has on the left, and at least has on the right."""
    total = layer.dilation * (layer.kernel - 1) + 1 - layer.stride
    return total - total // 2, total // 2


def measure_reach(layers: Sequence[Layer]) -> int:
    """Return how far what lies beyond an end of the input reaches into the output, in samples of the output."""
    reach = 0
    for layer in layers:
        match layer:
            case Convolution():
                reach = math.ceil((reach + max(measure_padding(layer))) / layer.stride)
            case Transposed():
                reach = reach * layer.stride + math.ceil(layer.stride / 2)
            case Residual():
                reach += measure_reach([layer.wide, layer.narrow])
            case _:
                raise TypeError(f"{layer} reaches everywhere.")
    return reach


class ConvolutionCell(nn.Cell):
    """A convolution and the ELU before it.

    Parameters
    ----------
    reflecting
        Whether the padding is reflected, as it is at the ends of the audio, or zeros.
    """

    def __init__(self, layer: Convolution, weights: Weights, target: Target, *, reflecting: bool) -> None:
        super().__init__()
        self.layer = layer
        self.left, self.right = measure_padding(layer)
        self.padded = reflecting and self.left > 0
        self.activated = layer.activated
        self.weight = target.hold(weights.read(f"{layer.name}.conv.weight")[:, :, None])
        self.bias = target.hold(weights.read(f"{layer.name}.conv.bias"))
        self.elu = ops.Elu()
        self.add = ops.BiasAdd()
        self.convolve = ops.Conv2D(
            layer.outputs,
            (1, layer.kernel),
            pad_mode="pad",
            pad=(0, 0, 0, 0) if reflecting else (0, 0, self.left, self.right),
            stride=(1, layer.stride),
            dilation=(1, layer.dilation),
        )

    def construct(self, x: Any) -> Any:
        """Convolve: (1, inputs, 1, length) to (1, outputs, 1, length / stride, rounded up)."""
        if self.activated:
            x = self.elu(x)
        if self.padded:
            x = self.reflect(x)
        return self.add(self.convolve(x, self.weight), self.bias)

    def reflect(self, x: Any) -> Any:
        """Pad with reflections; what is too short to be reflected gets zeros first, which are taken off again."""
        length = x.shape[3]
        right = self.right + -length % self.layer.stride
        missing = max(max(self.left, right) - length + 1, 0)
        if missing:
            x = ops.concat((x, ops.zeros((*x.shape[:3], missing), x.dtype)), -1)
        sources = np.pad(np.arange(length + missing, dtype=np.int32), (self.left, right), mode="reflect")
        ends = sources[: self.left], sources[len(sources) - right : len(sources)]
        before, after = (ops.gather(x, Tensor.from_numpy(np.ascontiguousarray(end)), 3) for end in ends)
        x = ops.concat((before, x, after), -1)
        return x[..., : self.left + length + right]


class TransposedCell(nn.Cell):
    """A transposed convolution, trimmed, and the ELU before it."""

    def __init__(self, layer: Transposed, weights: Weights, target: Target) -> None:
        super().__init__()
        self.outputs, self.stride = layer.outputs, layer.stride
        self.weight = target.hold(weights.read(f"{layer.name}.conv.weight")[:, :, None])
        self.bias = target.hold(weights.read(f"{layer.name}.conv.bias"))
        self.elu = ops.Elu()
        self.add = ops.BiasAdd()
        right = layer.stride // 2
        self.convolve = ops.Conv2DTranspose(
            layer.outputs,
            (1, 2 * layer.stride),
            pad_mode="pad",
            pad=(0, 0, layer.stride - right, right),
            stride=(1, layer.stride),
        )

    def construct(self, x: Any) -> Any:
        """Convolve: (1, inputs, 1, length) to (1, outputs, 1, length * stride)."""
        shape = (1, self.outputs, 1, x.shape[3] * self.stride)
        return self.add(self.convolve(self.elu(x), self.weight, shape), self.bias)


class ResidualCell(nn.Cell):
    """Two convolutions beside a shortcut."""

    def __init__(self, layer: Residual, weights: Weights, target: Target, *, reflecting: bool) -> None:
        super().__init__()
        self.wide = ConvolutionCell(layer.wide, weights, target, reflecting=reflecting)
        self.narrow = ConvolutionCell(layer.narrow, weights, target, reflecting=reflecting)
        self.straight = layer.shortcut is None
        if layer.shortcut is not None:
            self.shortcut = ConvolutionCell(layer.shortcut, weights, target, reflecting=reflecting)

    def construct(self, x: Any) -> Any:
        """Add both ways: (1, size, 1, length) to the same."""
        y = self.narrow(self.wide(x))
        if self.straight:
            return x + y
        return self.shortcut(x) + y


class LstmCell(nn.Cell):
    """Stacked LSTM layers and their skip, over a stretch of time; in float32 wherever it computes."""

    def __init__(self, name: str, size: int, layers: int, weights: Weights, target: Target) -> None:
        super().__init__()
        self.layers = layers
        self.target = target
        exact = Target(target.device)
        self.lstm = ops.LSTM(size, size, 1, True, False, 0.0)  # noqa: FBT003 - MindSpore takes them by position
        packed = []
        for layer in range(layers):
            parts = [weights.read(f"{name}.lstm.{kind}_l{layer}") for kind in ("weight_ih", "weight_hh")]
            biases = [weights.read(f"{name}.lstm.{kind}_l{layer}") for kind in ("bias_ih", "bias_hh")]
            parts += [biases[0] + biases[1]]
            blob = np.concatenate([part.ravel() for part in parts])[:, None, None]
            packed.append(exact.hold(blob))
        self.packed = tuple(packed)

    def construct(self, x: Any, states: Any) -> Any:
        """Step through a stretch.

        Parameters
        ----------
        x
            Shape (length, 1, size).
        states
            Per layer a hidden and a cell state, shape (1, 1, size).

        Returns
        -------
        Shape (length, 1, size), then the states after it.
        """
        y = x
        after = ()
        for layer in range(self.layers):
            y, hidden, cell, _, _ = self.lstm(y, states[2 * layer], states[2 * layer + 1], self.packed[layer])
            after = (*after, hidden, cell)
        return (x + y, *after)


def build(layers: Sequence[Layer], weights: Weights, target: Target, *, reflecting: bool) -> list[nn.Cell]:
    """Build the cells of layers that have no LSTM among them."""
    cells: list[nn.Cell] = []
    for layer in layers:
        match layer:
            case Convolution():
                cells.append(ConvolutionCell(layer, weights, target, reflecting=reflecting))
            case Transposed():
                cells.append(TransposedCell(layer, weights, target))
            case Residual():
                cells.append(ResidualCell(layer, weights, target, reflecting=reflecting))
            case _:
                raise TypeError(f"{layer} is no convolution.")
    return cells
