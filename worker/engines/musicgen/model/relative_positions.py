"""The buckets into which T5 sorts relative positions, computed in NumPy.

MindSpore is not used, because the logarithm of MindSpore on the CPU is too small for some powers of two.
"""

import math

import numpy as np
from numpy.typing import NDArray


def bucket_distances(distances: NDArray[np.int64], buckets: int, max_distance: int) -> NDArray[np.int64]:
    """Return the bucket of each distance between two tokens.

    Each short distance has a bucket of its own. Longer distances share buckets: the number of the bucket grows with
    the logarithm of the distance.

    Parameters
    ----------
    distances
        An array of any shape; distances to earlier positions are negative.
    buckets
        Number of buckets: half of them for earlier positions, half of them for later positions.
    max_distance
        All distances of at least this size share the last bucket of their half.

    Returns
    -------
    An array of the same shape as ``distances``.

    References
    ----------
    ``T5Attention._relative_position_bucket`` of transformers.
    """
    half = buckets // 2
    single = half // 2
    sizes = np.abs(distances)
    octaves = np.log(np.maximum(sizes, single).astype(np.float32) / np.float32(single)) / math.log(
        max_distance / single
    )
    wide = np.minimum(single + (octaves * (half - single)).astype(np.int64), half - 1)
    unsigned: NDArray[np.int64] = np.where(sizes < single, sizes, wide)
    return unsigned + half * (distances > 0)
