"""EnCodec's layers as MindSpore cells, and where each of them finds its padded input.

A convolution is a product of matrices here: rows of the input are gathered, as
many for each row of the output as the kernel is long. The gathering pads as
well, and cuts off, so that one compiled cell serves every signal that it has
room for; and it takes three quarters of the time that MindSpore's own
convolutions take on the CPU. As elsewhere here, a cell owns nothing: it reads
the weights that it is handed.

References
----------
Défossez et al. 2022, "High Fidelity Neural Audio Compression"; ``modeling_encodec.py`` of transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, mutable, nn, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.codec.windows import Local, lay_padding
from worker.engines.musicgen.model.seanet import Convolution, Residual, Transposed
from worker.engines.musicgen.model.weights import Weights


@dataclass(frozen=True)
class Signal:
    """Which rows of a tensor are the signal; what stands in the others must be felt nowhere."""

    start: int
    length: int
    rows: int


@dataclass(frozen=True)
class Route:
    """What a signal's length decides.

    Parameters
    ----------
    sources
        Per layer, for each row of its output the rows of its input, int32, shape (rows, kernel).
    output
        The last layer's signal.
    """

    sources: Any
    output: Signal


def trace(layers: Sequence[Local], length: int, rows: int) -> Route:
    """Trace a signal of ``length`` at the start of so many rows through the layers."""
    signal = Signal(0, length, rows)
    sources = []
    for layer in layers:
        if isinstance(layer, Transposed):
            source, signal = _trace_transposed(layer, signal)
        else:
            source, signal = _trace_convolution(layer.wide if isinstance(layer, Residual) else layer, signal)
        sources.append(Tensor.from_numpy(source.astype(np.int32)))
    return Route(mutable(tuple(sources)), signal)


def _trace_convolution(layer: Convolution, signal: Signal) -> tuple[NDArray[np.int64], Signal]:
    """Gather what each row of the output is made from; after the signal stands a row of zeros."""
    padded = signal.start + lay_padding(layer, signal.length, zero=signal.rows - signal.start)
    # The signal keeps its place, so that a residual can be added to it; where there is none, any row will do.
    start, length = signal.start // layer.stride, -(-signal.length // layer.stride)
    source = np.zeros((signal.rows // layer.stride, layer.kernel), dtype=np.int64)
    taps = np.arange(length)[:, None] * layer.stride + np.arange(layer.kernel) * layer.dilation
    source[start : start + length] = padded[taps]
    if _is_narrow(layer):
        source = np.minimum(source * layer.kernel + np.arange(layer.kernel), signal.rows * layer.kernel)
    return source, Signal(start, length, len(source))


def _trace_transposed(layer: Transposed, signal: Signal) -> tuple[NDArray[np.int64], Signal]:
    """Put each row beside the one before it, with zeros around the signal; trimming moves its start."""
    source = np.arange(signal.rows + 1)[:, None] - [1, 0]
    source[(source < signal.start) | (source >= signal.start + signal.length)] = signal.rows
    start = signal.start * layer.stride + layer.stride - layer.stride // 2
    return source, Signal(start, signal.length * layer.stride, len(source) * layer.stride)


def _is_narrow(layer: Convolution) -> bool:
    """Tell whether a convolution multiplies first and gathers the products, because those are the fewer."""
    return layer.outputs == 1


def hold_weights(layers: Sequence[Local], weights: Weights, target: Target) -> Any:
    """Put the layers' weights where they are computed, as the cells multiply by them."""

    def read(layer: Convolution | Transposed) -> tuple[Tensor, Tensor]:
        kernel, bias = (weights.read(name) for name, _ in layer.list_tensors())
        if isinstance(layer, Transposed):
            # (inputs, outputs, 2 * stride) to (row before or this one, inputs, stride, outputs)
            matrix = kernel.reshape(layer.inputs, layer.outputs, 2, layer.stride)[:, :, ::-1].transpose(2, 0, 3, 1)
            matrix = matrix.reshape(2 * layer.inputs, -1)
        elif _is_narrow(layer):
            matrix = kernel[0]
        else:
            matrix = kernel.transpose(2, 1, 0).reshape(-1, layer.outputs)
        return target.hold(matrix), target.hold(bias)

    def hold(layer: Local) -> tuple[Tensor, ...]:
        if not isinstance(layer, Residual):
            return read(layer)
        shortcut = () if layer.shortcut is None else read(layer.shortcut)
        return (*read(layer.wide), *read(layer.narrow), *shortcut)

    return mutable(tuple(hold(layer) for layer in layers))


class Stack(nn.Cell):
    """Layers, one after the other, compiled for the number of rows that it is given.

    Parameters
    ----------
    short
        Whether signals may be too short to be reflected, so that convolutions need zeros as well; that takes a copy.
    """

    def __init__(self, layers: Sequence[Local], *, short: bool) -> None:
        super().__init__()
        self.count = len(layers)
        self.layers = nn.CellList([_build(layer, short=short) for layer in layers])

    @mindspore.jit
    def construct(self, x: Any, weights: Any, sources: Any) -> Any:
        """Compute.

        Parameters
        ----------
        x
            Shape (rows, inputs); the number of rows is a multiple of all strides.
        weights
            Made by `hold_weights` of the same layers.
        sources
            Made by `trace` of the same layers.

        Returns
        -------
        Shape (rows of the output, outputs), with the signal where `Route.output` says.
        """
        for index in range(self.count):
            x = self.layers[index](x, weights[index], sources[index])
        return x


class ConvolutionCell(nn.Cell):
    """A convolution and the ELU before it."""

    def __init__(self, layer: Convolution, *, short: bool) -> None:
        super().__init__()
        self.activated = layer.activated
        self.pointwise = layer.kernel == 1
        self.narrow = _is_narrow(layer)
        self.short = short
        self.elu = ops.Elu()
        self.multiply = ops.MatMul()
        self.add = ops.BiasAdd()

    def construct(self, x: Any, weights: Any, source: Any) -> Any:
        """Convolve: (rows, inputs) to (rows / stride, outputs)."""
        if self.activated:
            x = self.elu(x)
        if self.narrow:
            x = self.multiply(x, weights[0]).reshape(-1, 1)
        if self.short and not self.pointwise:
            x = _append_zero(x)
        if not self.pointwise:
            x = ops.gather(x, source, 0).reshape(source.shape[0], -1)
        x = x.sum(1, keepdims=True) if self.narrow else self.multiply(x, weights[0])
        return self.add(x, weights[1])


class TransposedCell(nn.Cell):
    """An ELU and a transposed convolution."""

    def __init__(self, layer: Transposed) -> None:
        super().__init__()
        self.outputs = layer.outputs
        self.elu = ops.Elu()
        self.multiply = ops.MatMul()
        self.add = ops.BiasAdd()

    def construct(self, x: Any, weights: Any, source: Any) -> Any:
        """Convolve: (rows, inputs) to ((rows + 1) * stride, outputs)."""
        x = ops.gather(_append_zero(self.elu(x)), source, 0).reshape(source.shape[0], -1)
        return self.add(self.multiply(x, weights[0]).reshape(-1, self.outputs), weights[1])


class ResidualCell(nn.Cell):
    """Two convolutions beside a shortcut."""

    def __init__(self, layer: Residual, *, short: bool) -> None:
        super().__init__()
        self.wide = ConvolutionCell(layer.wide, short=short)
        self.narrow = ConvolutionCell(layer.narrow, short=short)
        self.shortcut = None if layer.shortcut is None else ConvolutionCell(layer.shortcut, short=short)

    def construct(self, x: Any, weights: Any, source: Any) -> Any:
        """Add both ways: (rows, size) to the same."""
        y = self.narrow(self.wide(x, weights[0:2], source), weights[2:4], None)
        if self.shortcut is None:
            return x + y
        return self.shortcut(x, weights[4:6], None) + y


def _append_zero(x: Any) -> Any:
    return ops.concat((x, ops.zeros((1, x.shape[1]), x.dtype)), 0)


def _build(layer: Local, *, short: bool) -> nn.Cell:
    match layer:
        case Convolution():
            return ConvolutionCell(layer, short=short)
        case Transposed():
            return TransposedCell(layer)
        case Residual():
            return ResidualCell(layer, short=short)
