"""How a signal of any length goes through convolutions: their padding, and the windows that it is cut into.

What is computed window by window is that of one piece: neighbours overlap by as
much as the convolutions reach, and of each window that part is kept which its
own cuts cannot be felt in.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.model.seanet import Convolution, Layer, Lstm, Residual, Transposed

MAX_SMALL_FACTOR: Final = 3
"""So many small windows take as long as a large one."""

Local = Convolution | Transposed | Residual
"""Layers that reach no further than their kernels."""


def divide(layers: Sequence[Layer]) -> tuple[list[Local], Lstm, list[Local]]:
    """Divide a half of EnCodec into what comes before its LSTM, the LSTM, and what comes after it."""
    (lstm,) = (layer for layer in layers if isinstance(layer, Lstm))
    place = layers.index(lstm)
    before = [layer for layer in layers[:place] if not isinstance(layer, Lstm)]
    after = [layer for layer in layers[place:] if not isinstance(layer, Lstm)]
    return before, lstm, after


def measure_padding(layer: Convolution) -> tuple[int, int]:
    """Return how much padding a convolution has on the left and, where its stride divides the input, on the right."""
    total = layer.dilation * (layer.kernel - 1) + 1 - layer.stride
    return total - total // 2, total // 2


def lay_padding(layer: Convolution, length: int, zero: int) -> NDArray[np.int64]:
    """Say where each row of a convolution's padded input stands in the signal.

    It is padded by reflection, on the right to a whole stride; what is too short
    to be reflected gets zeros first.

    Parameters
    ----------
    length
        The signal's.
    zero
        Stands for a row of zeros.
    """
    left, right = measure_padding(layer)
    right += -length % layer.stride
    missing = max(max(left, right) + 1 - length, 0)
    rows = np.pad(np.arange(length), (0, missing), constant_values=zero)
    return np.pad(rows, (left, right), mode="reflect")


def measure_reach(layers: Sequence[Local]) -> int:
    """Return how far into the output it can be felt where the input was cut, in rows of the output."""
    reach = 0
    for layer in layers:
        match layer:
            case Convolution():
                reach = math.ceil((reach + max(measure_padding(layer))) / layer.stride)
            case Transposed():
                reach = reach * layer.stride + math.ceil(layer.stride / 2)
            case Residual():
                reach += measure_reach([layer.wide, layer.narrow])
    return reach


@dataclass(frozen=True)
class Window:
    """Frames that are computed at once, with room for ``size``, and those among them that are kept."""

    start: int
    stop: int
    kept_start: int
    kept_stop: int
    size: int

    def read(self, x: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        """Return the part of a signal that it is computed from, where ``rows`` of the signal are a frame."""
        return x[self.start * rows : self.stop * rows]

    def keep(self, y: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        """Return what is kept of what was computed, where ``rows`` of that are a frame."""
        return y[(self.kept_start - self.start) * rows : (self.kept_stop - self.start) * rows]


def cut(frames: int, small: int, large: int, reach: int) -> Iterator[Window]:
    """Cut a signal into windows of two sizes, small ones where few frames are left.

    Parameters
    ----------
    frames
        The signal's length.
    reach
        How many frames beside a cut mean nothing.
    """
    done = 0
    while done < frames:
        start = max(done - reach, 0)
        size = large if frames - start > MAX_SMALL_FACTOR * small else small
        if size == small:
            # What is shorter than its paddings would be padded in another way than the whole signal.
            start = max(min(start, frames - small), 0)
        stop = min(start + size, frames)
        kept_stop = stop if stop == frames else stop - reach
        yield Window(start, stop, done, kept_stop, size)
        done = kept_stop
