"""EnCodec on OpenVINO: audio to codes and back, in windows of one shape.

Only the LSTM remembers for long, and it looks back alone; it is computed in
stretches. What comes before it or after it is computed window by window (see
`worker.engines.musicgen.codec.windows`). So it takes the memory of one window, and a
job can be stopped between two.

Convolutions read rows of channels here, and where OpenVINO knows all shapes it
sees that nothing has to be moved for that; with shapes of any length they take
twice as long. Hence the one shape, and how signals of any length find room in
it: a convolution's padded input is gathered, from where its length says, and
what stands behind the signal's end is masked.

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

from worker.engines.musicgen.backends.openvino.decoder_graph import take
from worker.engines.musicgen.backends.openvino.graph_cache import GraphCompiler, Part
from worker.engines.musicgen.codec.rvq import Rows, quantise, read_embeddings, restore
from worker.engines.musicgen.codec.windows import Local, cut, divide, lay_padding, measure_padding, measure_reach
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
"""How much of a window is kept: whole seconds are cut without a rest, and musicgen-small's widest layer is 8 MB."""
STRETCH: Final = 128
"""How many frames the LSTM reads at once."""

SIGNAL: Final = "signal"

_END: Final = 2**40
"""Where a slice ends that leaves nothing out."""

Tell = Callable[[], None]
Load = Callable[[str, Callable[[Weights], ov.Model]], Part]
"""Loads the graph of a name, or builds it from the weights."""


class Codec:
    """EnCodec; see `worker.engines.musicgen.pipeline.Codec`.

    The encoder is loaded when audio is first encoded, since most jobs have none.
    """

    def __init__(self, config: CodecConfig, weights: Weights, compiler: GraphCompiler) -> None:
        self._config = config
        self._weights = weights
        self._compiler = compiler
        self._embeddings = read_embeddings(config, weights)
        self._decoder = self._load("decoder", list_decoder_layers(config), (1, config.hop))
        self._encoder: _Half | None = None
        self._lock = threading.Lock()

    def encode(self, audio: NDArray[np.float32], tell: Tell) -> Codes:
        """Encode; see the protocol."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load("encoder", list_encoder_layers(self._config), (self._config.hop, 1))
        return quantise(self._encoder.compute(audio[:, None], tell), self._embeddings)

    def decode(self, codes: Codes, tell: Tell) -> NDArray[np.float32]:
        """Decode; see the protocol."""
        return self._decoder.compute(restore(codes, self._embeddings), tell)[:, 0]

    def _load(self, half: str, layers: Sequence[Layer], samples: tuple[int, int]) -> "_Half":
        def load(part: str, build: Callable[[Weights], ov.Model]) -> Part:
            return Part(self._compiler.compile(f"{half}-{part}", partial(build, self._weights)))

        return _Half(layers, samples, self._config.frame_rate * WINDOW_S, load)


class _Half:
    """The encoder or the decoder: convolutions, an LSTM, convolutions.

    Parameters
    ----------
    samples
        How many rows of the input and of the output are a frame.
    frames
        How many of a window are kept.
    """

    def __init__(self, layers: Sequence[Layer], samples: tuple[int, int], frames: int, load: Load) -> None:
        before, lstm, after = divide(layers)
        self._recurrence = _Recurrence(lstm, load)
        self._before = _Convolutions(before, (samples[0], 1), frames, partial(load, "before"))
        self._after = _Convolutions(after, (1, samples[1]), frames, partial(load, "after"))

    def compute(self, x: Rows, tell: Tell) -> Rows:
        return self._after.compute(self._recurrence.compute(self._before.compute(x, tell), tell), tell)


class _Convolutions:
    """Layers that are computed in windows."""

    def __init__(
        self,
        layers: Sequence[Local],
        samples: tuple[int, int],
        frames: int,
        load: Callable[[Callable[[Weights], ov.Model]], Part],
    ) -> None:
        self._layers = layers
        self._inputs, self._outputs = samples
        self._reach = math.ceil(measure_reach(layers) / self._outputs)
        # With room for more than any padding, which is reflected as in the whole signal.
        self._frames = max(frames, 2 * self._reach) + 2 * self._reach
        self._rows = self._frames * self._inputs
        self._part = load(lambda weights: ConvolutionsBuilder(weights).build(layers, self._rows))
        self._whole = trace(layers, self._rows, self._rows)

    def compute(self, x: Rows, tell: Tell) -> Rows:
        parts = []
        for window in cut(math.ceil(len(x) / self._inputs), self._frames, self._frames, self._reach):
            y = self._compute(window.read(x, self._inputs))
            parts.append(window.keep(y, self._outputs))
            tell()
        return np.concatenate(parts)

    def _compute(self, x: Rows) -> Rows:
        filled, route = x[None], self._whole
        if len(x) < self._rows:
            filled = np.pad(filled, ((0, 0), (0, self._rows - len(x)), (0, 0)))
            route = trace(self._layers, len(x), self._rows)
        (y,) = self._part.compute({SIGNAL: filled, **route})
        rows: Rows = y[0]
        return rows


class _Recurrence:
    """Stacked LSTM layers along time, and the skip beside them."""

    def __init__(self, layer: Lstm, load: Load) -> None:
        self._layer = layer
        self._part = load("lstm", lambda weights: build_recurrence(layer, weights))

    def compute(self, x: Rows, tell: Tell) -> Rows:
        names = name_states(self._layer)
        states = [np.zeros((1, self._layer.size), dtype=np.float32)] * len(names)
        parts = []
        for start in range(0, len(x), STRETCH):
            stretch = {SIGNAL: x[start : start + STRETCH], **dict(zip(names, states, strict=True))}
            y, *states = self._part.compute(stretch)
            parts.append(y)
            tell()
        return np.concatenate(parts)


def name_mask(layer: Convolution | Transposed) -> str:
    """Name the input that tells a layer's signal from what stands behind its end."""
    return f"{layer.name}.mask"


def name_sources(layer: Convolution) -> str:
    """Name the input that says where each row of a convolution's padded input stands."""
    return f"{layer.name}.sources"


def name_states(layer: Lstm) -> list[str]:
    """Name the inputs that are each layer's hidden and cell state."""
    return [f"{layer.name}.{kind}.{index}" for index in range(layer.layers) for kind in ("hidden", "cell")]


def trace(layers: Sequence[Local], length: int, rows: int) -> dict[str, NDArray[Any]]:
    """Make the inputs, by name, that a signal of ``length`` at the start of so many rows needs beside itself."""
    inputs: dict[str, NDArray[Any]] = {}
    for layer in layers:
        taken = layer.wide if isinstance(layer, Residual) else layer
        if _is_padded(taken):
            inputs[name_mask(taken)] = (np.arange(rows) < length).astype(np.float32)[None, :, None]
        if isinstance(taken, Transposed):
            length, rows = length * taken.stride, rows * taken.stride
            continue
        if _is_padded(taken):
            sources = np.zeros(rows + sum(measure_padding(taken)), dtype=np.int32)
            padded = lay_padding(taken, length, zero=length)[: len(sources)]
            sources[: len(padded)] = padded
            inputs[name_sources(taken)] = sources
        length, rows = -(-length // taken.stride), rows // taken.stride
    return inputs


def _is_padded(layer: Convolution | Transposed) -> bool:
    return isinstance(layer, Transposed) or layer.kernel > 1


class ConvolutionsBuilder:
    """Builds the graph of layers for so many rows.

    Its tensors have the shape (1, rows, channels), except between two turns.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._inputs: list[Any] = []

    def build(self, layers: Sequence[Local], rows: int) -> ov.Model:
        """Build it.

        Inputs
        ------
        signal
            float32, shape (1, rows, channels).
        *.mask, *.sources
            Made by `trace` of the same layers.

        Returns
        -------
        One output, float32, of the same form, with the signal at its start.
        """
        first = layers[0].wide if isinstance(layers[0], Residual) else layers[0]
        x = self._take(SIGNAL, ov.Type.f32, [1, rows, first.inputs])
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

    def _take(self, name: str, kind: ov.Type, shape: list[int]) -> Any:
        node = take(name, kind, shape)
        self._inputs.append(node)
        return node

    def _convolve(self, layer: Convolution, x: Any) -> Any:
        kernel, bias = self._read(layer)
        x = self._prepare(layer, x)
        if layer.outputs == 1:
            y = self._multiply_first(layer, x, kernel)
        else:
            y = ops.convolution(
                _turn(self._pad(layer, x, 1)), _hold(kernel), [layer.stride], [0], [0], [layer.dilation]
            )
        return _turn(ops.add(y, _hold(bias[None, :, None])))

    def _multiply_first(self, layer: Convolution, x: Any, kernel: NDArray[np.float32]) -> Any:
        """Convolve to one channel: multiply, and add up the products, which are fewer than what is multiplied."""
        products = self._pad(layer, _turn(ops.matmul(x, _hold(kernel.transpose(0, 2, 1)), False, True)), 2)
        reach = layer.dilation * (layer.kernel - 1)
        taps = [
            ops.slice(products, [tap, start], [tap + 1, start - reach or _END], [1, layer.stride], [1, 2])
            for tap, start in enumerate(range(0, reach + 1, layer.dilation))
        ]
        return reduce(ops.add, taps)

    def _convolve_transposed(self, layer: Transposed, x: Any) -> Any:
        """Convolve each row and the one before it to as many rows as the stride is long; trim their ends."""
        kernel, bias = self._read(layer)
        # (inputs, outputs, 2 * stride) to (stride, outputs, inputs, row before or this one)
        kernel = kernel.reshape(layer.inputs, layer.outputs, 2, layer.stride)[:, :, ::-1].transpose(3, 1, 0, 2)
        kernel = kernel.reshape(layer.stride * layer.outputs, layer.inputs, 2)
        y = ops.convolution(_turn(self._prepare(layer, x)), _hold(kernel), [1], [1], [1], [1])
        y = _turn(ops.add(y, _hold(np.tile(bias, layer.stride)[None, :, None])))
        y = ops.reshape(y, [1, -1, layer.outputs], False)
        trimmed = layer.stride // 2
        return ops.slice(y, [layer.stride - trimmed], [-trimmed or _END], [1], [1])

    def _read(self, layer: Convolution | Transposed) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        kernel, bias = (self._weights.read(name) for name, _ in layer.list_tensors())
        return kernel, bias

    def _prepare(self, layer: Convolution | Transposed, x: Any) -> Any:
        if isinstance(layer, Transposed) or layer.activated:
            x = ops.elu(x, 1.0)
        if _is_padded(layer):
            x = ops.multiply(x, self._take(name_mask(layer), ov.Type.f32, [1, x.get_output_shape(0)[1], 1]))
        return x

    def _pad(self, layer: Convolution, x: Any, axis: int) -> Any:
        if not _is_padded(layer):
            return x
        rows = x.get_output_shape(0)[axis] + sum(measure_padding(layer))
        return ops.gather(x, self._take(name_sources(layer), ov.Type.i32, [rows]), axis)


def build_recurrence(layer: Lstm, weights: Weights) -> ov.Model:
    """Build the graph of stacked LSTM layers, and the skip beside them.

    OpenVINO has an operator for an LSTM, too, which takes half as long again: its
    product of a single row with a matrix is slower than that of the others.

    Inputs
    ------
    signal
        float32, shape (frames, size).
    *.hidden.N, *.cell.N
        Of each layer, before the first frame, shape (1, size).

    Returns
    -------
    What becomes of the signal, and then the states after its last frame.
    """
    signal = take(SIGNAL, ov.Type.f32, [-1, layer.size])
    states = [take(name, ov.Type.f32, [1, layer.size]) for name in name_states(layer)]
    names = [name for name, _ in layer.list_tensors()]
    x, outputs = signal, []
    for index in range(layer.layers):
        parts = [weights.read(name) for name in names[4 * index : 4 * index + 4]]
        x, *after = _step_through(x, states[2 * index : 2 * index + 2], parts)
        outputs += after
    return ov.Model([ops.result(y) for y in (ops.add(signal, x), *outputs)], [signal, *states], "recurrence")


def _step_through(x: Any, states: Sequence[Any], parts: Sequence[NDArray[np.float32]]) -> tuple[Any, Any, Any]:
    """Step through the rows of x with one layer; return what it gives, and its states in the end."""
    inner, recurrent, *biases = parts
    size = recurrent.shape[1]
    entered = ops.add(ops.matmul(x, _hold(inner), False, True), _hold(np.sum(biases, axis=0)[None]))
    given, hidden, cell = (
        take(name, ov.Type.f32, [1, width]) for name, width in (("given", 4 * size), ("hidden", size), ("cell", size))
    )
    # Added only after they are split: a sum right behind a product would choose a slower product.
    halves = (ops.matmul(hidden, _hold(recurrent), False, True), given)
    pairs = zip(*(ops.split(half, 1, 4).outputs() for half in halves), strict=True)
    entry, forget, new, out = (ops.add(*pair) for pair in pairs)
    kept = ops.multiply(ops.sigmoid(forget), cell)
    next_cell = ops.result(ops.add(kept, ops.multiply(ops.sigmoid(entry), ops.tanh(new))))
    next_hidden = ops.result(ops.multiply(ops.sigmoid(out), ops.tanh(next_cell.input_value(0))))
    loop = ops.tensor_iterator()
    loop.set_body(ov.Model([next_hidden, next_cell], [given, hidden, cell], "step"))
    loop.set_sliced_input(given, entered.output(0), 0, 1, 1, -1, 0)
    results = (next_hidden.output(0), next_cell.output(0))
    for before, start, after in zip((hidden, cell), states, results, strict=True):
        loop.set_merged_input(before, start.output(0), after)
    rows = loop.get_concatenated_slices(results[0], 0, 1, 1, -1, 0)
    return rows, *(loop.get_iter_value(result, -1) for result in results)


def _turn(x: Any) -> Any:
    """Exchange rows and channels."""
    return ops.transpose(x, [0, 2, 1])


def _hold(values: NDArray[np.float32]) -> Any:
    return ops.constant(np.ascontiguousarray(values), shared_memory=True)
