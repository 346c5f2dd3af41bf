"""The windows into which a signal of any length is cut for convolutions.

A signal that is computed window by window gives the same result as the whole signal computed
at once. A cut in the input changes the output only up to a certain distance from the cut: the
reach of the convolutions. This part of the output is discarded, and neighbouring windows overlap,
so that one of them computes it without a cut.

In all arrays here, a row holds the channels of one position in time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.codec.padding import measure_padding
from worker.engines.musicgen.model.seanet import Convolution, Layer, Lstm, Residual, Transposed

MAX_SMALL_FACTOR: Final = 3
"""This many small windows take as long to compute as one large window."""

Local = Convolution | Transposed | Residual
"""A layer in which each row of the output depends only on the input rows under the kernel."""


def divide(layers: Sequence[Layer]) -> tuple[list[Local], Lstm, list[Local]]:
    """Divide the encoder or decoder into the layers before its LSTM, the LSTM, and the layers after it."""
    (lstm,) = (layer for layer in layers if isinstance(layer, Lstm))
    place = layers.index(lstm)
    before = [layer for layer in layers[:place] if not isinstance(layer, Lstm)]
    after = [layer for layer in layers[place:] if not isinstance(layer, Lstm)]
    return before, lstm, after


def measure_reach(layers: Sequence[Local]) -> int:
    """Return how far a cut in the input influences the output, in rows of the output."""
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
    """Frames that are computed together: from ``start`` to ``stop`` (excluded), padded to ``size`` frames.

    Of the output, the frames from ``kept_start`` to ``kept_stop`` (excluded) are kept.
    """

    start: int
    stop: int
    kept_start: int
    kept_stop: int
    size: int

    def read(self, x: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        """Return the part of a signal that the window covers; one frame has ``rows`` rows of the signal."""
        return x[self.start * rows : self.stop * rows]

    def keep(self, y: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        """Return the part of the computed output that is kept; one frame has ``rows`` rows of the output."""
        return y[(self.kept_start - self.start) * rows : (self.kept_stop - self.start) * rows]


def cut(frames: int, small: int, large: int, reach: int) -> Iterator[Window]:
    """Cut a signal into windows of two sizes; when few frames are left, small windows are used.

    Parameters
    ----------
    frames
        The length of the signal.
    small, large
        The two sizes of windows, in frames.
    reach
        Number of output frames next to a cut that are not valid, because the cut influences them.
    """
    done = 0
    while done < frames:
        start = max(done - reach, 0)
        size = large if frames - start > MAX_SMALL_FACTOR * small else small
        if size == small:
            # A window shorter than its padding would be padded differently from the whole signal. So a small window
            # starts early enough to be full, if the signal is long enough.
            start = max(min(start, frames - small), 0)
        stop = min(start + size, frames)
        kept_stop = stop if stop == frames else stop - reach
        yield Window(start, stop, done, kept_stop, size)
        done = kept_stop
