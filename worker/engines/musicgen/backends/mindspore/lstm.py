"""EnCodec's LSTM in MindSpore."""

from collections.abc import Callable
from typing import Final

import numpy as np
from mindspore import Tensor, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, to_numpy
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.model.seanet import Lstm
from worker.engines.musicgen.model.weights import Weights

SHORT_SEGMENT: Final = 128
LONG_SEGMENT: Final = 512
"""``SHORT_SEGMENT`` and ``LONG_SEGMENT`` are the possible numbers of frames that one call of the operator reads. Each
call also reorders the weights, which takes as long as reading 40 frames."""


class LstmLayers:
    """Stacked LSTM layers along time, with the skip connection around them.

    Each layer is a single operator, which is called without compilation. For each length
    of the input, MindSpore prepares the operator and keeps what it has prepared in
    memory. Without compilation, all layers share this memory (35 MB for musicgen-small);
    with compilation, each layer would take as much.

    The operator is ``LSTM`` on CPU and GPU, and ``DynamicRNN`` on Ascend. ``nn.LSTM``
    would choose the same operator, but is not used: it packs the weights again in every
    call, which more than doubles the time. The precision is float32 on CPU and GPU, and
    float16 on Ascend, where the operator supports nothing else.
    """

    def __init__(self, layer: Lstm, weights: Weights, target: Target) -> None:
        self._ascend = target.device == "Ascend"
        self._target = Target(target.device, "float16" if self._ascend else "float32")
        self._shape = (1, 1, layer.size)
        # The arguments of LSTM: input size, hidden size, layers, whether with biases, whether bidirectional, dropout.
        self._lstm = ops.DynamicRNN() if self._ascend else ops.LSTM(layer.size, layer.size, 1, True, False, 0.0)  # noqa: FBT003
        names = [name for name, _ in layer.list_tensors()]
        tensors = [[weights.read(name) for name in names[first : first + 4]] for first in range(0, len(names), 4)]
        self._weights = [self._pack_weights(*of_layer) for of_layer in tensors]

    def compute(self, x: NDArray[np.float32], on_progress: Callable[[], None]) -> NDArray[np.float32]:
        """Run the layers over a signal.

        Parameters
        ----------
        x
            Shape (frames, size).
        on_progress
            Called after each segment; may raise to stop the work.

        Returns
        -------
        The output, with the same shape as ``x``.
        """
        y = np.empty_like(x)
        zero = self._target.to_tensor(np.zeros(self._shape, dtype=np.float32))
        states = [(zero, zero)] * len(self._weights)
        done = 0
        while done < len(x):
            # The padding of the last segment comes after the signal, so it does not change the output for the signal.
            padded = np.zeros((choose_segment(len(x) - done), 1, x.shape[1]), dtype=np.float32)
            read = min(len(padded), len(x) - done)
            padded[:read, 0] = x[done : done + read]
            segment = self._target.to_tensor(padded)
            for index, state in enumerate(states):
                segment, hidden, cell = self._run_layer(segment, state, self._weights[index])
                states[index] = (hidden, cell)
            y[done : done + read] = to_numpy(segment)[:read, 0]
            done += read
            on_progress()
        y += x
        return y

    @run_exclusively
    def _run_layer(
        self, x: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one layer over x, shape (length, 1, size).

        Returns
        -------
        The output, with the same shape as ``x``, the last hidden state, and the last cell state.
        """
        if self._ascend:
            y, hidden, cell, *_ = self._lstm(x, *weights, None, *state)
            return y, hidden[-1:], cell[-1:]
        y, hidden, cell, *_ = self._lstm(x, *state, *weights)
        return y, hidden, cell

    def _pack_weights(
        self,
        input_weights: NDArray[np.float32],
        recurrent_weights: NDArray[np.float32],
        input_bias: NDArray[np.float32],
        recurrent_bias: NDArray[np.float32],
    ) -> tuple[Tensor, ...]:
        """Put a layer's weights on the device, in the layout that the operator expects."""
        bias = input_bias + recurrent_bias
        if self._ascend:
            matrix = reorder_gates(np.concatenate([input_weights, recurrent_weights], axis=1)).T
            return self._target.to_device(matrix), self._target.to_device(reorder_gates(bias))
        biases = [bias] if self._target.device == "CPU" else [input_bias, recurrent_bias]
        packed = np.concatenate([part.ravel() for part in (input_weights, recurrent_weights, *biases)])
        return (self._target.to_device(packed[:, None, None]),)


def choose_segment(frames: int) -> int:
    """Choose the length of the next segment if ``frames`` frames are left.

    Three short segments take as long as a long segment.
    """
    return LONG_SEGMENT if frames > LONG_SEGMENT - SHORT_SEGMENT else SHORT_SEGMENT


def reorder_gates(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the gates into Ascend's order: input, cell, forget, output.

    Parameters
    ----------
    values
        Shape (4 * size, ...), in PyTorch's order: input, forget, cell, output.
    """
    gates = np.split(values, 4)
    return np.concatenate([gates[0], gates[2], gates[1], gates[3]])
