"""EnCodec on OpenVINO: encodes audio as codes and decodes codes to audio, in windows of one shape.

The encoder and the decoder consist of convolutions, an LSTM, and convolutions again.
In the LSTM, a frame depends on all earlier frames, but on no later frame (the LSTM is
causal). So the LSTM reads the signal in segments, one after the other. In the
convolutions, a frame depends only on nearby frames. So the convolutions are computed
window by window (see `worker.engines.musicgen.codec.windows`). Hence only the memory
for one window is needed, and the work can be ended between two windows.

In all tensors here, a row holds the channels of one position in time. OpenVINO's
convolutions read this layout without a copy if all shapes are fixed; with dynamic
shapes, the convolutions take twice as long. Hence all windows have the same shape.
A signal that is shorter than a window is extended with zeros to this shape. The graph
then has inputs that depend on the length of the signal: indices, with which the padded
input of each convolution is gathered, and masks, which set the rows after the end of
the signal to 0.

References
----------
Défossez et al. 2022, "High Fidelity Neural Audio Compression"; ``modeling_encodec.py`` of transformers.
"""

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset16 as ops

from worker.engines.musicgen.backends.openvino.decoder_graph import make_input
from worker.engines.musicgen.backends.openvino.graph_cache import GraphCompiler, LockedGraph
from worker.engines.musicgen.codec.padding import lay_padding, measure_padding
from worker.engines.musicgen.codec.rvq import Rows, quantise, read_embeddings, restore
from worker.engines.musicgen.codec.windows import Local, cut, divide, measure_reach
from worker.engines.musicgen.model.configuration import CodecConfig
from worker.engines.musicgen.model.seanet import (
    Convolution,
    Layer,
    Lstm,
    Residual,
    Transposed,
    list_decoder_layers,
    list_encoder_layers,
)
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.request import Codes

WINDOW_S: Final = 1
"""How many seconds of a window's output are kept. The output next to a cut is discarded, so a window is longer than
this. With one second, a signal of whole seconds is divided evenly into windows, and the widest layer of musicgen-small
takes 8 MB per window."""
SEGMENT_FRAMES: Final = 128
"""How many frames the LSTM reads at once."""

SIGNAL: Final = "signal"

_TO_END: Final = 2**40
"""The stop index of a slice that ends at the end of an axis, for any length of the axis."""

OnProgress = Callable[[], None]
Load = Callable[[str, Callable[[Weights], ov.Model]], LockedGraph]
"""A function that loads a graph. Its arguments are the name of the graph, and a function that builds the graph from the
weights. The graph is built only if no graph with this name is stored."""


class Codec:
    """Implements `worker.engines.musicgen.pipeline.Codec`.

    The encoder is loaded when audio is first encoded, since most jobs have no audio to encode.
    """

    def __init__(self, config: CodecConfig, weights: Weights, compiler: GraphCompiler) -> None:
        self._config = config
        self._weights = weights
        self._compiler = compiler
        self._embeddings = read_embeddings(config, weights)
        self._decoder = self._load("decoder", list_decoder_layers(config), (1, config.hop))
        self._encoder: _CodecHalf | None = None
        self._lock = threading.Lock()

    def encode(self, audio: NDArray[np.float32], on_progress: OnProgress) -> Codes:
        """Encode the audio of one channel, shape (samples,), as codes, shape (codebooks, frames)."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load("encoder", list_encoder_layers(self._config), (self._config.hop, 1))
        return quantise(self._encoder.compute(audio[:, None], on_progress), self._embeddings)

    def decode(self, codes: Codes, on_progress: OnProgress) -> NDArray[np.float32]:
        """Decode the codes of one channel, shape (codebooks, frames), to audio, shape (samples,)."""
        return self._decoder.compute(restore(codes, self._embeddings), on_progress)[:, 0]

    def _load(self, half: str, layers: Sequence[Layer], rows_per_frame: tuple[int, int]) -> "_CodecHalf":
        def load(part: str, build: Callable[[Weights], ov.Model]) -> LockedGraph:
            return LockedGraph(self._compiler.compile(f"{half}-{part}", partial(build, self._weights)))

        return _CodecHalf(layers, rows_per_frame, self._config.frame_rate * WINDOW_S, load)


class _CodecHalf:
    """The encoder or the decoder of EnCodec: convolutions, an LSTM, and convolutions again.

    Parameters
    ----------
    rows_per_frame
        How many rows of the input, and how many rows of the output, make one frame.
    frames
        How many frames of a window are kept.
    """

    def __init__(self, layers: Sequence[Layer], rows_per_frame: tuple[int, int], frames: int, load: Load) -> None:
        before, lstm, after = divide(layers)
        self._lstm = _LstmLayers(lstm, load)
        self._before = _Convolutions(before, (rows_per_frame[0], 1), frames, partial(load, "before"))
        self._after = _Convolutions(after, (1, rows_per_frame[1]), frames, partial(load, "after"))

    def compute(self, x: Rows, on_progress: OnProgress) -> Rows:
        x = self._before.compute(x, on_progress)
        return self._after.compute(self._lstm.compute(x, on_progress), on_progress)


class _Convolutions:
    """Convolutional layers, which are computed window by window."""

    def __init__(
        self,
        layers: Sequence[Local],
        rows_per_frame: tuple[int, int],
        frames: int,
        load: Callable[[Callable[[Weights], ov.Model]], LockedGraph],
    ) -> None:
        self._layers = layers
        self._input_rows, self._output_rows = rows_per_frame
        self._reach = math.ceil(measure_reach(layers) / self._output_rows)
        # A window is longer than the padding of every layer. So padding by reflection adds the same rows to a window as
        # to the whole signal.
        self._frames = max(frames, 2 * self._reach) + 2 * self._reach
        self._rows = self._frames * self._input_rows
        self._graph = load(lambda weights: ConvolutionGraphBuilder(weights).build(layers, self._rows))
        self._full_inputs = make_length_inputs(layers, self._rows, self._rows)

    def compute(self, x: Rows, on_progress: OnProgress) -> Rows:
        parts = []
        for window in cut(math.ceil(len(x) / self._input_rows), self._frames, self._frames, self._reach):
            y = self._compute_window(window.read(x, self._input_rows))
            parts.append(window.keep(y, self._output_rows))
            on_progress()
        return np.concatenate(parts)

    def _compute_window(self, x: Rows) -> Rows:
        signal, length_inputs = x[None], self._full_inputs
        if len(x) < self._rows:
            signal = np.pad(signal, ((0, 0), (0, self._rows - len(x)), (0, 0)))
            length_inputs = make_length_inputs(self._layers, len(x), self._rows)
        (y,) = self._graph.compute({SIGNAL: signal, **length_inputs})
        rows: Rows = y[0]
        return rows


class _LstmLayers:
    """Stacked LSTM layers along time, with the skip connection around them."""

    def __init__(self, layer: Lstm, load: Load) -> None:
        self._layer = layer
        self._graph = load("lstm", lambda weights: build_lstm(layer, weights))

    def compute(self, x: Rows, on_progress: OnProgress) -> Rows:
        names = name_states(self._layer)
        states = [np.zeros((1, self._layer.size), dtype=np.float32)] * len(names)
        parts = []
        for start in range(0, len(x), SEGMENT_FRAMES):
            segment = x[start : start + SEGMENT_FRAMES]
            y, *states = self._graph.compute({SIGNAL: segment, **dict(zip(names, states, strict=True))})
            parts.append(y)
            on_progress()
        return np.concatenate(parts)


def name_mask(layer: Convolution | Transposed) -> str:
    """Return the name of the input that is 1 for the rows of a layer's signal, and 0 for the rows after the signal."""
    return f"{layer.name}.mask"


def name_sources(layer: Convolution) -> str:
    """Return the name of the input that holds, for each row of a padded signal, the index of the row in the signal."""
    return f"{layer.name}.sources"


def name_states(layer: Lstm) -> list[str]:
    """Return the names of the inputs for the hidden state and the cell state of each layer."""
    return [f"{layer.name}.{kind}.{index}" for index in range(layer.layers) for kind in ("hidden", "cell")]


def make_length_inputs(layers: Sequence[Local], length: int, rows: int) -> dict[str, NDArray[Any]]:
    """Return the inputs that depend on the length of the signal, keyed by name.

    Parameters
    ----------
    length
        The length of the signal, which begins in the first row.
    rows
        How many rows the input of the first layer has.
    """
    inputs: dict[str, NDArray[Any]] = {}
    for layer in layers:
        first = layer.wide if isinstance(layer, Residual) else layer
        if _is_padded(first):
            inputs[name_mask(first)] = (np.arange(rows) < length).astype(np.float32)[None, :, None]
        if isinstance(first, Transposed):
            length, rows = length * first.stride, rows * first.stride
            continue
        if _is_padded(first):
            sources = np.zeros(rows + sum(measure_padding(first)), dtype=np.int32)
            padded = lay_padding(first, length, zero=length)[: len(sources)]
            sources[: len(padded)] = padded
            inputs[name_sources(first)] = sources
        length, rows = -(-length // first.stride), rows // first.stride
    return inputs


def _is_padded(layer: Convolution | Transposed) -> bool:
    return isinstance(layer, Transposed) or layer.kernel > 1


class ConvolutionGraphBuilder:
    """Builds the graph of convolutional layers for a fixed number of rows.

    The tensors have the shape (1, rows, channels). For each convolution of OpenVINO they are transposed to
    (1, channels, rows), and after the convolution they are transposed back.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._inputs: list[Any] = []

    def build(self, layers: Sequence[Local], rows: int) -> ov.Model:
        """Build the graph.

        Inputs
        ------
        signal
            float32, shape (1, rows, channels).
        *.mask, *.sources
            Returned by `make_length_inputs` for the same layers.

        Returns
        -------
        The graph. It has one output, float32, shape (1, rows, channels); the signal begins in the first row.
        """
        first = layers[0].wide if isinstance(layers[0], Residual) else layers[0]
        x = self._add_input(SIGNAL, ov.Type.f32, [1, rows, first.inputs])
        for layer in layers:
            match layer:
                case Convolution():
                    x = self._convolve(layer, x)
                case Transposed():
                    x = self._convolve_transposed(layer, x)
                case Residual():
                    y = self._convolve(layer.narrow, self._convolve(layer.wide, x))
                    x = ops.add(x if layer.shortcut is None else self._convolve(layer.shortcut, x), y)
        return ov.Model([ops.result(x)], self._inputs, "convolutions")

    def _add_input(self, name: str, dtype: ov.Type, shape: list[int]) -> Any:
        node = make_input(name, dtype, shape)
        self._inputs.append(node)
        return node

    def _convolve(self, layer: Convolution, x: Any) -> Any:
        kernel, bias = self._read(layer)
        x = self._activate_and_mask(layer, x)
        if layer.outputs == 1:
            y = self._multiply_then_gather(layer, x, kernel)
        else:
            y = ops.convolution(
                _swap_axes(self._pad(layer, x, 1)), _constant(kernel), [layer.stride], [0], [0], [layer.dilation]
            )
        return _swap_axes(ops.add(y, _constant(bias[None, :, None])))

    def _multiply_then_gather(self, layer: Convolution, x: Any, kernel: NDArray[np.float32]) -> Any:
        """Convolve to one channel: multiply before padding, and add up the padded products.

        Each row has fewer products (one for each tap of the kernel) than inputs (one for each channel). So there is
        less to pad.
        """
        products = self._pad(layer, _swap_axes(ops.matmul(x, _constant(kernel.transpose(0, 2, 1)), False, True)), 2)
        extent = layer.dilation * (layer.kernel - 1)
        taps = [
            ops.slice(products, [tap, start], [tap + 1, start - extent or _TO_END], [1, layer.stride], [1, 2])
            for tap, start in enumerate(range(0, extent + 1, layer.dilation))
        ]
        return reduce(ops.add, taps)

    def _convolve_transposed(self, layer: Transposed, x: Any) -> Any:
        """Compute ``stride`` rows from each row and the row before it; trim the start and the end of the output."""
        kernel, bias = self._read(layer)
        # The shape changes from (inputs, outputs, 2 * stride) to (stride, outputs, inputs, 2). In the last axis, index
        # 0 is for the row before, and index 1 is for the row itself.
        kernel = kernel.reshape(layer.inputs, layer.outputs, 2, layer.stride)[:, :, ::-1].transpose(3, 1, 0, 2)
        kernel = kernel.reshape(layer.stride * layer.outputs, layer.inputs, 2)
        y = ops.convolution(_swap_axes(self._activate_and_mask(layer, x)), _constant(kernel), [1], [1], [1], [1])
        y = _swap_axes(ops.add(y, _constant(np.tile(bias, layer.stride)[None, :, None])))
        y = ops.reshape(y, [1, -1, layer.outputs], False)
        trimmed = layer.stride // 2
        return ops.slice(y, [layer.stride - trimmed], [-trimmed or _TO_END], [1], [1])

    def _read(self, layer: Convolution | Transposed) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        kernel, bias = (self._weights.read(name) for name, _ in layer.list_tensors())
        return kernel, bias

    def _activate_and_mask(self, layer: Convolution | Transposed, x: Any) -> Any:
        if isinstance(layer, Transposed) or layer.activated:
            x = ops.elu(x, 1.0)
        if _is_padded(layer):
            x = ops.multiply(x, self._add_input(name_mask(layer), ov.Type.f32, [1, x.get_output_shape(0)[1], 1]))
        return x

    def _pad(self, layer: Convolution, x: Any, axis: int) -> Any:
        if not _is_padded(layer):
            return x
        rows = x.get_output_shape(0)[axis] + sum(measure_padding(layer))
        return ops.gather(x, self._add_input(name_sources(layer), ov.Type.i32, [rows]), axis)


def build_lstm(layer: Lstm, weights: Weights) -> ov.Model:
    """Build the graph of stacked LSTM layers, with the skip connection around them.

    The graph contains a loop instead of OpenVINO's operator for an LSTM. That operator takes one and a half times as
    long as the loop, since the operator multiplies a single row by a matrix more slowly than ``matmul`` does.

    Inputs
    ------
    signal
        float32, shape (frames, size).
    *.hidden.N, *.cell.N
        The states of layer N before the first frame, shape (1, size).

    Returns
    -------
    The graph. Its first output has a row for each frame, shape (frames, size). The other outputs are the states after
    the last frame, in the order of the inputs.
    """
    signal = make_input(SIGNAL, ov.Type.f32, [-1, layer.size])
    states = [make_input(name, ov.Type.f32, [1, layer.size]) for name in name_states(layer)]
    names = [name for name, _ in layer.list_tensors()]
    x, outputs = signal, []
    for index in range(layer.layers):
        tensors = [weights.read(name) for name in names[4 * index : 4 * index + 4]]
        x, *last_states = _build_lstm_layer(x, states[2 * index : 2 * index + 2], tensors)
        outputs += last_states
    return ov.Model([ops.result(y) for y in (ops.add(signal, x), *outputs)], [signal, *states], "lstm")


def _build_lstm_layer(x: Any, states: Sequence[Any], tensors: Sequence[NDArray[np.float32]]) -> tuple[Any, Any, Any]:
    """Build a loop that runs one layer over the rows of x.

    Returns
    -------
    The output, the hidden state after the last row, and the cell state after the last row.
    """
    input_weights, recurrent_weights, *biases = tensors
    size = recurrent_weights.shape[1]
    projected = ops.add(ops.matmul(x, _constant(input_weights), False, True), _constant(np.sum(biases, axis=0)[None]))
    projected_row, hidden, cell = (
        make_input(name, ov.Type.f32, [1, width])
        for name, width in (("projected", 4 * size), ("hidden", size), ("cell", size))
    )
    # Both summands are split into the four gates before they are added. If the addition came right after the product,
    # OpenVINO would choose a slower implementation of the product.
    summands = (ops.matmul(hidden, _constant(recurrent_weights), False, True), projected_row)
    pairs = zip(*(ops.split(summand, 1, 4).outputs() for summand in summands), strict=True)
    input_gate, forget_gate, candidate, output_gate = (ops.add(*pair) for pair in pairs)
    kept = ops.multiply(ops.sigmoid(forget_gate), cell)
    next_cell = ops.result(ops.add(kept, ops.multiply(ops.sigmoid(input_gate), ops.tanh(candidate))))
    next_hidden = ops.result(ops.multiply(ops.sigmoid(output_gate), ops.tanh(next_cell.input_value(0))))
    loop = ops.tensor_iterator()
    loop.set_body(ov.Model([next_hidden, next_cell], [projected_row, hidden, cell], "step"))
    loop.set_sliced_input(projected_row, projected.output(0), 0, 1, 1, -1, 0)
    results = (next_hidden.output(0), next_cell.output(0))
    for state, first, result in zip((hidden, cell), states, results, strict=True):
        loop.set_merged_input(state, first.output(0), result)
    rows = loop.get_concatenated_slices(results[0], 0, 1, 1, -1, 0)
    return rows, *(loop.get_iter_value(result, -1) for result in results)


def _swap_axes(x: Any) -> Any:
    """Swap rows and channels."""
    return ops.transpose(x, [0, 2, 1])


def _constant(values: NDArray[np.float32]) -> Any:
    return ops.constant(np.ascontiguousarray(values), shared_memory=True)
