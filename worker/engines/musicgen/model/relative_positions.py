"""T5's buckets of relative positions, in NumPy.

MindSpore's logarithm on the CPU is too small for some powers of two.
"""

import math

import numpy as np
from numpy.typing import NDArray


def bucket_distances(distances: NDArray[np.int64], buckets: int, max_distance: int) -> NDArray[np.int64]:
    """Sort distances between tokens into buckets: near distances have one each, far ones share them logarithmically.

    Parameters
    ----------
    distances
        Any shape; negative for positions before.
    buckets
        Number of buckets: half for positions before, half for positions after.
    max_distance
        All distances from this one share the last bucket.

    Returns
    -------
    An array of the same shape.

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
