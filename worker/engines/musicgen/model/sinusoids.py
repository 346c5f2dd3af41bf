"""The sinusoidal embeddings of positions."""

import math

import numpy as np
from numpy.typing import NDArray


def make_sinusoids(positions: int, hidden: int) -> NDArray[np.float32]:
    """Make the embeddings of positions: the first half of each embedding has cosines, the second half sines.

    Returns
    -------
    Shape (positions, hidden).
    """
    half = hidden // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10_000) / (half - 1)))
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
