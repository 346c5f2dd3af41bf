"""EnCodec's layers as MindSpore cells, and the indices with which each cell gathers its padded input.

In all tensors here, a row holds the channels of one position in time. A convolution is
computed by a gather and a matrix product: for each row of the output, the rows of the
input that the kernel covers are gathered, and multiplied by the weights. The gather
also pads and trims. So a cell that is compiled for a certain number of rows serves
every signal that has at most this number of rows. On the CPU, the gather and the
product together need three quarters of the time that MindSpore's own convolutions need. The cells do
not contain the weights: the weights are inputs.

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
from worker.engines.musicgen.codec.padding import lay_padding
from worker.engines.musicgen.codec.windows import Local
from worker.engines.musicgen.model.seanet import Convolution, Residual, Transposed
from worker.engines.musicgen.model.weights import Weights


@dataclass(frozen=True)
class SignalRange:
    """The rows of a tensor that hold the signal.

    The other rows have undefined values, which must not affect the signal.

    Parameters
    ----------
    start
        The first row of the signal.
    length
        How many rows the signal has.
    rows
        How many rows the whole tensor has.
    """

    start: int
    length: int
    rows: int


@dataclass(frozen=True)
class GatherPlan:
    """What the cells need for a signal of a certain length, and where the signal is in their output.

    Parameters
    ----------
    sources
        Per layer, the indices of the rows that are gathered, int32: shape (rows of the output, kernel), or, for a
        transposed convolution, shape (rows of the output / stride, 2).
    output
        The rows of the last layer's output that hold the signal.
    """

    sources: Any
    output: SignalRange


def plan_gathers(layers: Sequence[Local], length: int, rows: int) -> GatherPlan:
    """Plan the gathers of all layers for a signal of ``length`` rows at the start of a tensor of ``rows`` rows."""
    signal = SignalRange(0, length, rows)
    sources = []
    for layer in layers:
        if isinstance(layer, Transposed):
            source, signal = _plan_transposed(layer, signal)
        else:
            source, signal = _plan_convolution(layer.wide if isinstance(layer, Residual) else layer, signal)
        sources.append(Tensor.from_numpy(source.astype(np.int32)))
    return GatherPlan(mutable(tuple(sources)), signal)


def _plan_convolution(layer: Convolution, signal: SignalRange) -> tuple[NDArray[np.int64], SignalRange]:
    """Return, for each row of the output, the indices of the input's rows that it is computed from.

    The second returned value is the range of the signal in the output.

    The index ``signal.rows``, which is one more than the last index of a row, stands for a row of zeros. If the
    convolution multiplies before it gathers, each row of the input has ``kernel`` products, and the indices select
    products; then ``signal.rows * kernel`` stands for zero.
    """
    padded = signal.start + lay_padding(layer, signal.length, zero=signal.rows - signal.start)
    # With a stride of 1, the signal starts in the same row of the input and of the output, so that a residual layer can
    # add the two. Rows of the output that do not belong to the signal may gather any row.
    start, length = signal.start // layer.stride, -(-signal.length // layer.stride)
    source = np.zeros((signal.rows // layer.stride, layer.kernel), dtype=np.int64)
    taps = np.arange(length)[:, None] * layer.stride + np.arange(layer.kernel) * layer.dilation
    source[start : start + length] = padded[taps]
    if _multiplies_first(layer):
        source = np.minimum(source * layer.kernel + np.arange(layer.kernel), signal.rows * layer.kernel)
    return source, SignalRange(start, length, len(source))


def _plan_transposed(layer: Transposed, signal: SignalRange) -> tuple[NDArray[np.int64], SignalRange]:
    """Return a pair of indices for each row of the input and for the row after the last: the row before and the row.

    The second returned value is the range of the signal in the output. In the pairs, the index of a row outside the
    signal is replaced by ``signal.rows``, which stands for a row of zeros. No row is removed from the output: only the
    range of the signal trims it.
    """
    source = np.arange(signal.rows + 1)[:, None] - [1, 0]
    source[(source < signal.start) | (source >= signal.start + signal.length)] = signal.rows
    start = signal.start * layer.stride + layer.stride - layer.stride // 2
    return source, SignalRange(start, signal.length * layer.stride, len(source) * layer.stride)


def _multiplies_first(layer: Convolution) -> bool:
    """Return whether a convolution multiplies before it gathers.

    With a single output channel, fewer values are gathered in this way: one product for each row that the kernel
    covers, instead of all input channels of that row.
    """
    return layer.outputs == 1


def load_weights(layers: Sequence[Local], weights: Weights, target: Target) -> Any:
    """Put the layers' weights on the device, in the shapes that the matrix products of the cells need."""

    def load_convolution(layer: Convolution | Transposed) -> tuple[Tensor, Tensor]:
        kernel, bias = (weights.read(name) for name, _ in layer.list_tensors())
        if isinstance(layer, Transposed):
            # The shape changes from (inputs, outputs, 2 * stride) to (2, inputs, stride, outputs). In the first axis,
            # index 0 is for the row before, and index 1 is for the row itself.
            matrix = kernel.reshape(layer.inputs, layer.outputs, 2, layer.stride)[:, :, ::-1].transpose(2, 0, 3, 1)
            matrix = matrix.reshape(2 * layer.inputs, -1)
        elif _multiplies_first(layer):
            matrix = kernel[0]
        else:
            matrix = kernel.transpose(2, 1, 0).reshape(-1, layer.outputs)
        return target.to_device(matrix), target.to_device(bias)

    def load(layer: Local) -> tuple[Tensor, ...]:
        if not isinstance(layer, Residual):
            return load_convolution(layer)
        shortcut = () if layer.shortcut is None else load_convolution(layer.shortcut)
        return (*load_convolution(layer.wide), *load_convolution(layer.narrow), *shortcut)

    return mutable(tuple(load(layer) for layer in layers))


class ConvolutionStack(nn.Cell):
    """Computes layers one after the other. It is compiled for the number of rows of its input.

    Parameters
    ----------
    short_signals
        Whether signals may be too short to be padded by reflection. If true, a row of zeros is appended to the rows
        that a convolution gathers from. If false, nothing is appended, since appending copies all of these rows.
    """

    def __init__(self, layers: Sequence[Local], *, short_signals: bool) -> None:
        super().__init__()
        self.count = len(layers)
        self.layers = nn.CellList([_build_cell(layer, short_signals=short_signals) for layer in layers])

    @mindspore.jit
    def construct(self, x: Any, weights: Any, sources: Any) -> Any:
        """Compute the layers.

        Parameters
        ----------
        x
            Shape (rows, inputs); the number of rows is a multiple of all strides.
        weights
            Returned by `load_weights` for the same layers.
        sources
            The sources in the `GatherPlan` for the same layers.

        Returns
        -------
        Shape (rows of the output, outputs). The signal is in the rows `GatherPlan.output`.
        """
        for index in range(self.count):
            x = self.layers[index](x, weights[index], sources[index])
        return x


class ConvolutionCell(nn.Cell):
    """A convolution, with an ELU before it if the layer is ``activated``."""

    def __init__(self, layer: Convolution, *, short_signals: bool) -> None:
        super().__init__()
        self.activated = layer.activated
        self.pointwise = layer.kernel == 1
        self.multiplies_first = _multiplies_first(layer)
        self.short_signals = short_signals
        self.elu = ops.Elu()
        self.multiply = ops.MatMul()
        self.add = ops.BiasAdd()

    def construct(self, x: Any, weights: Any, source: Any) -> Any:
        """Convolve x, shape (rows, inputs); return shape (rows / stride, outputs)."""
        if self.activated:
            x = self.elu(x)
        if self.multiplies_first:
            x = self.multiply(x, weights[0]).reshape(-1, 1)
        if self.short_signals and not self.pointwise:
            x = _append_zeros(x)
        if not self.pointwise:
            x = ops.gather(x, source, 0).reshape(source.shape[0], -1)
        x = x.sum(1, keepdims=True) if self.multiplies_first else self.multiply(x, weights[0])
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
        """Convolve x, shape (rows, inputs); return shape ((rows + 1) * stride, outputs)."""
        x = ops.gather(_append_zeros(self.elu(x)), source, 0).reshape(source.shape[0], -1)
        return self.add(self.multiply(x, weights[0]).reshape(-1, self.outputs), weights[1])


class ResidualCell(nn.Cell):
    """Two convolutions with a shortcut around them."""

    def __init__(self, layer: Residual, *, short_signals: bool) -> None:
        super().__init__()
        self.wide = ConvolutionCell(layer.wide, short_signals=short_signals)
        self.narrow = ConvolutionCell(layer.narrow, short_signals=short_signals)
        shortcut = layer.shortcut
        self.shortcut = None if shortcut is None else ConvolutionCell(shortcut, short_signals=short_signals)

    def construct(self, x: Any, weights: Any, source: Any) -> Any:
        """Return the sum of the convolutions and the shortcut; x and the sum have the shape (rows, size)."""
        y = self.narrow(self.wide(x, weights[0:2], source), weights[2:4], None)
        if self.shortcut is None:
            return x + y
        return self.shortcut(x, weights[4:6], None) + y


def _append_zeros(x: Any) -> Any:
    """Append a row of zeros."""
    return ops.concat((x, ops.zeros((1, x.shape[1]), x.dtype)), 0)


def _build_cell(layer: Local, *, short_signals: bool) -> nn.Cell:
    match layer:
        case Convolution():
            return ConvolutionCell(layer, short_signals=short_signals)
        case Transposed():
            return TransposedCell(layer)
        case Residual():
            return ResidualCell(layer, short_signals=short_signals)
