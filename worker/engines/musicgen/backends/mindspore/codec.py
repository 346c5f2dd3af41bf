"""EnCodec in MindSpore: encodes audio as codes and decodes codes to audio, in windows of two fixed shapes.

The encoder and the decoder consist of convolutions, an LSTM, and convolutions again.
In the LSTM, a frame depends on all earlier frames, but on no later frame (the LSTM is
causal). In the convolutions, a frame depends only on nearby frames. So the
convolutions are computed window by window (see
`worker.engines.musicgen.codec.windows`). Hence only the memory for one window is
needed, and the work can be ended between two windows. Above all, a signal of another
length needs no new shape. For each new shape of the input of such a large network,
MindSpore keeps some 30 MB, both if it compiles the network to a graph and if it runs the
operators one by one.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, to_numpy
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.backends.mindspore.lstm import LstmLayers
from worker.engines.musicgen.backends.mindspore.seanet_cells import (
    ConvolutionStack,
    GatherPlan,
    load_weights,
    plan_gathers,
)
from worker.engines.musicgen.codec.rvq import Rows, quantise, read_embeddings, restore
from worker.engines.musicgen.codec.windows import Local, cut, divide, measure_reach
from worker.engines.musicgen.model.configuration import CodecConfig
from worker.engines.musicgen.model.seanet import Layer, list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.request import Codes

SMALL_FRAMES: Final = 16
LARGE_FRAMES: Final = 64
"""``SMALL_FRAMES`` and ``LARGE_FRAMES`` are the minimum lengths of small and large windows. The windows are longer if
the reach of the convolutions requires it. In a large window, the widest layer of musicgen-small needs 10 MB."""

OnProgress = Callable[[], None]


def ignore_progress() -> None:
    """Do nothing: the default of ``on_progress``, for work that need not be stopped."""


class Codec:
    """Implements `worker.engines.musicgen.pipeline.Codec`. Computes one channel at a time.

    To compute several channels, or several samples of a job, at once would save at most half of the
    LSTM's time, and would need more shapes.
    """

    def __init__(self, config: CodecConfig, weights: Weights, target: Target) -> None:
        self._embeddings = read_embeddings(config, weights)
        self._encoder = _CodecHalf(list_encoder_layers(config), weights, target, (config.hop, 1))
        self._decoder = _CodecHalf(list_decoder_layers(config), weights, target, (1, config.hop))

    def encode(self, audio: NDArray[np.float32], on_progress: OnProgress = ignore_progress) -> Codes:
        """Encode the audio of one channel as codes.

        Parameters
        ----------
        audio
            Shape (samples,), at least one sample.
        on_progress
            Called several times per second of work; may raise to stop the work.

        Returns
        -------
        The codes, shape (codebooks, frames). The last frame is included even if the audio does not fill it.
        """
        return quantise(self._encoder.compute(audio[:, None], on_progress), self._embeddings)

    def decode(self, codes: Codes, on_progress: OnProgress = ignore_progress) -> NDArray[np.float32]:
        """Decode the codes of one channel to audio.

        Parameters
        ----------
        codes
            Shape (codebooks, frames), at least one frame.
        on_progress
            Called several times per second of work; may raise to stop the work.

        Returns
        -------
        The audio, shape (samples,), with ``hop`` samples for each frame.
        """
        return self._decoder.compute(restore(codes, self._embeddings), on_progress)[:, 0]


class _CodecHalf:
    """The encoder or the decoder of EnCodec: convolutions, an LSTM, and convolutions again.

    Parameters
    ----------
    rows_per_frame
        How many rows of the input, and how many rows of the output, make one frame.
    """

    def __init__(
        self, layers: Sequence[Layer], weights: Weights, target: Target, rows_per_frame: tuple[int, int]
    ) -> None:
        before, lstm, after = divide(layers)
        self._lstm = LstmLayers(lstm, weights, target)
        self._before = _Convolutions(before, weights, target, (rows_per_frame[0], 1))
        self._after = _Convolutions(after, weights, target, (1, rows_per_frame[1]))

    def compute(self, x: Rows, on_progress: OnProgress) -> Rows:
        x = self._before.compute(x, on_progress)
        return self._after.compute(self._lstm.compute(x, on_progress), on_progress)


class _Convolutions:
    """Convolutional layers, which are computed window by window."""

    def __init__(
        self, layers: Sequence[Local], weights: Weights, target: Target, rows_per_frame: tuple[int, int]
    ) -> None:
        self._layers = layers
        self._target = target
        self._weights = load_weights(layers, weights, target)
        self._input_rows, self._output_rows = rows_per_frame
        self._reach = math.ceil(measure_reach(layers) / self._output_rows)
        self._small = max(SMALL_FRAMES, 4 * self._reach)
        self._large = max(LARGE_FRAMES, 4 * self._small)
        self._cells = {
            self._small: ConvolutionStack(layers, short_signals=True),
            self._large: ConvolutionStack(layers, short_signals=False),
        }
        self._full_plans = {size: self._plan(size * self._input_rows, size) for size in self._cells}

    def compute(self, x: Rows, on_progress: OnProgress) -> Rows:
        parts = []
        for window in cut(math.ceil(len(x) / self._input_rows), self._small, self._large, self._reach):
            y = self._compute_window(window.read(x, self._input_rows), window.size)
            parts.append(window.keep(y, self._output_rows))
            on_progress()
        return np.concatenate(parts)

    def _plan(self, length: int, size: int) -> GatherPlan:
        return plan_gathers(self._layers, length, size * self._input_rows)

    @run_exclusively
    def _compute_window(self, x: Rows, size: int) -> Rows:
        padded = np.zeros((size * self._input_rows, x.shape[1]), dtype=np.float32)
        padded[: len(x)] = x
        plan = self._full_plans[size] if len(x) == len(padded) else self._plan(len(x), size)
        y = to_numpy(self._cells[size](self._target.to_tensor(padded), self._weights, plan.sources))
        return y[plan.output.start : plan.output.start + plan.output.length]
