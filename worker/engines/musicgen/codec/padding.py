"""The padding of convolutions at both ends of a signal.

In all arrays here, a row holds the channels of one position in time.
"""

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.model.seanet import Convolution


def measure_padding(layer: Convolution) -> tuple[int, int]:
    """Return the padding of a convolution on the left and on the right.

    The padding on the right applies to a signal whose length is a multiple of the stride.
    """
    total = layer.dilation * (layer.kernel - 1) + 1 - layer.stride
    return total - total // 2, total // 2


def lay_padding(layer: Convolution, length: int, zero: int) -> NDArray[np.int64]:
    """Return, for each row of the padded input of a convolution, the index of the signal's row that is copied there.

    The signal is padded by reflection. On the right, more rows are added if the length of the signal is
    not a multiple of the stride. A signal that is too short for reflection is first extended with zeros.

    Parameters
    ----------
    length
        The number of rows of the signal.
    zero
        The index that stands for a row of zeros.
    """
    left, right = measure_padding(layer)
    right += -length % layer.stride
    missing = max(max(left, right) + 1 - length, 0)
    rows = np.pad(np.arange(length), (0, missing), constant_values=zero)
    return np.pad(rows, (left, right), mode="reflect")
