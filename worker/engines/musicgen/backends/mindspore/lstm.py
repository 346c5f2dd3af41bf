"""EnCodec's LSTM in MindSpore."""

from collections.abc import Callable
from typing import Final

import numpy as np
from mindspore import Tensor, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, take
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.model.seanet import Lstm
from worker.engines.musicgen.model.weights import Weights

SHORT: Final = 128
LONG: Final = 512
"""How many frames are read at once: each time takes as long as 40 more, in which the weights are reordered."""


class CompiledLstm:
    """Stacked LSTM layers along time, and the skip beside them.

    They are called and not compiled: a layer is a single operator, and when it
    is called, MindSpore keeps what it prepared for a length once for all
    layers, 35 MB for musicgen-small; compiled, once for each.

    On CPU and GPU that operator is ``LSTM``, on Ascend ``DynamicRNN``.
    ``nn.LSTM`` chooses between them as well, but packs the weights anew in
    every call, which more than doubles the time. Precision is float32 where the
    operator has it; Ascend's has float16 alone.
    """

    def __init__(self, layer: Lstm, weights: Weights, target: Target) -> None:
        self._ascend = target.device == "Ascend"
        self._target = Target(target.device, "float16" if self._ascend else "float32")
        self._shape = (1, 1, layer.size)
        # MindSpore takes whether there are biases and two directions, and the dropout, by position.
        self._lstm = ops.DynamicRNN() if self._ascend else ops.LSTM(layer.size, layer.size, 1, True, False, 0.0)  # noqa: FBT003
        names = [name for name, _ in layer.list_tensors()]
        parts = [[weights.read(name) for name in names[first : first + 4]] for first in range(0, len(names), 4)]
        self._weights = [self._pack(*part) for part in parts]

    def compute(self, x: NDArray[np.float32], tell: Callable[[], None]) -> NDArray[np.float32]:
        """Step through a signal.

        Parameters
        ----------
        x
            Shape (frames, size).
        tell
            Called between stretches; may raise.

        Returns
        -------
        Of the same shape.
        """
        y = np.empty_like(x)
        zero = self._target.send(np.zeros(self._shape, dtype=np.float32))
        states = [(zero, zero)] * len(self._weights)
        done = 0
        while done < len(x):
            # What the last stretch is filled up with comes too late to matter.
            filled = np.zeros((choose_stretch(len(x) - done), 1, x.shape[1]), dtype=np.float32)
            read = min(len(filled), len(x) - done)
            filled[:read, 0] = x[done : done + read]
            stretch = self._target.send(filled)
            for index, state in enumerate(states):
                stretch, hidden, cell = self._step(stretch, state, self._weights[index])
                states[index] = (hidden, cell)
            y[done : done + read] = take(stretch)[:read, 0]
            done += read
            tell()
        y += x
        return y

    @run_exclusively
    def _step(
        self, x: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Go through a layer: (length, 1, size) to the same, and its hidden and cell state after it."""
        if self._ascend:
            y, hidden, cell, *_ = self._lstm(x, *weights, None, *state)
            return y, hidden[-1:], cell[-1:]
        y, hidden, cell, *_ = self._lstm(x, *state, *weights)
        return y, hidden, cell

    def _pack(
        self,
        inner: NDArray[np.float32],
        recurrent: NDArray[np.float32],
        inner_bias: NDArray[np.float32],
        recurrent_bias: NDArray[np.float32],
    ) -> tuple[Tensor, ...]:
        """Put a layer's weights where it is computed, as the operator wants them."""
        if self._ascend:
            matrix = exchange_gates(np.concatenate([inner, recurrent], axis=1)).T
            return self._target.hold(matrix), self._target.hold(exchange_gates(inner_bias + recurrent_bias))
        biases = [inner_bias + recurrent_bias] if self._target.device == "CPU" else [inner_bias, recurrent_bias]
        packed = np.concatenate([part.ravel() for part in (inner, recurrent, *biases)])
        return (self._target.hold(packed[:, None, None]),)


def choose_stretch(frames: int) -> int:
    """Choose how much to read next where so many frames are left: three short stretches take as long as a long one."""
    return LONG if frames > LONG - SHORT else SHORT


def exchange_gates(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the gates in Ascend's order: input, cell, forget, output.

    Parameters
    ----------
    values
        Shape (4 * size, ...), in PyTorch's order: input, forget, cell, output.
    """
    gates = np.split(values, 4)
    return np.concatenate([gates[0], gates[2], gates[1], gates[3]])
