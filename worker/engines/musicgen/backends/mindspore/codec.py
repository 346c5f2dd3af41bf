"""EnCodec in MindSpore: audio to codes and back, in windows of two fixed shapes.

Only the LSTM remembers for long, and it looks back alone. What comes before it
or after it is computed window by window (see `worker.engines.musicgen.codec.windows`).
So it takes the memory of one window; a job can be stopped between two; and no
length is ever new, which is worth the most, since MindSpore keeps some 30 MB for
each new shape of so large a network, whether it is compiled or not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, take
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.backends.mindspore.lstm import CompiledLstm
from worker.engines.musicgen.backends.mindspore.seanet_cells import Route, Stack, hold_weights, trace
from worker.engines.musicgen.codec.rvq import Rows, quantise, read_embeddings, restore
from worker.engines.musicgen.codec.windows import Local, cut, divide, measure_reach
from worker.engines.musicgen.model.configuration import CodecConfig
from worker.engines.musicgen.model.seanet import Layer, list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.request import Codes

SMALL_FRAMES: Final = 16
LARGE_FRAMES: Final = 64
"""How large windows are: of musicgen-small's widest layer, 10 MB."""

Tell = Callable[[], None]


def say_nothing() -> None:
    """Take no notice of progress."""


class Codec:
    """EnCodec, for one channel at a time.

    More channels or samples at once would save no more than half of the LSTM's
    time, and would need more shapes.
    """

    def __init__(self, config: CodecConfig, weights: Weights, target: Target) -> None:
        self._embeddings = read_embeddings(config, weights)
        self._encoder = _Half(list_encoder_layers(config), weights, target, (config.hop, 1))
        self._decoder = _Half(list_decoder_layers(config), weights, target, (1, config.hop))

    def encode(self, audio: NDArray[np.float32], tell: Tell = say_nothing) -> Codes:
        """Encode.

        Parameters
        ----------
        audio
            Shape (samples,), at least one.
        tell
            Called several times per second of work; may raise.

        Returns
        -------
        Shape (codebooks, frames), a frame for each hop that has begun.
        """
        return quantise(self._encoder.compute(audio[:, None], tell), self._embeddings)

    def decode(self, codes: Codes, tell: Tell = say_nothing) -> NDArray[np.float32]:
        """Decode.

        Parameters
        ----------
        codes
            Shape (codebooks, frames), at least one frame.
        tell
            Called several times per second of work; may raise.

        Returns
        -------
        Shape (samples,), a hop for each frame.
        """
        return self._decoder.compute(restore(codes, self._embeddings), tell)[:, 0]


class _Half:
    """The encoder or the decoder: convolutions, an LSTM, convolutions.

    Parameters
    ----------
    samples
        How many rows of the input and of the output are a frame.
    """

    def __init__(self, layers: Sequence[Layer], weights: Weights, target: Target, samples: tuple[int, int]) -> None:
        before, lstm, after = divide(layers)
        self._recurrence = CompiledLstm(lstm, weights, target)
        self._before = _Convolutions(before, weights, target, (samples[0], 1))
        self._after = _Convolutions(after, weights, target, (1, samples[1]))

    def compute(self, x: Rows, tell: Tell) -> Rows:
        return self._after.compute(self._recurrence.compute(self._before.compute(x, tell), tell), tell)


class _Convolutions:
    """Layers that are computed in windows."""

    def __init__(self, layers: Sequence[Local], weights: Weights, target: Target, samples: tuple[int, int]) -> None:
        self._layers = layers
        self._target = target
        self._weights = hold_weights(layers, weights, target)
        self._inputs, self._outputs = samples
        self._reach = math.ceil(measure_reach(layers) / self._outputs)
        self._small = max(SMALL_FRAMES, 4 * self._reach)
        self._large = max(LARGE_FRAMES, 4 * self._small)
        self._cells = {self._small: Stack(layers, short=True), self._large: Stack(layers, short=False)}
        self._routes = {size: self._trace(size * self._inputs, size) for size in self._cells}

    def compute(self, x: Rows, tell: Tell) -> Rows:
        parts = []
        for window in cut(math.ceil(len(x) / self._inputs), self._small, self._large, self._reach):
            y = self._compute(window.read(x, self._inputs), window.size)
            parts.append(window.keep(y, self._outputs))
            tell()
        return np.concatenate(parts)

    def _trace(self, length: int, size: int) -> Route:
        return trace(self._layers, length, size * self._inputs)

    @run_exclusively
    def _compute(self, x: Rows, size: int) -> Rows:
        filled = np.zeros((size * self._inputs, x.shape[1]), dtype=np.float32)
        filled[: len(x)] = x
        route = self._routes[size] if len(x) == len(filled) else self._trace(len(x), size)
        y = take(self._cells[size](self._target.send(filled), self._weights, route.sources))
        return y[route.output.start : route.output.start + route.output.length]
