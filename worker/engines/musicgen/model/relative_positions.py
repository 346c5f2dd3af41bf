"""T5's buckets of distance, for both engines: MindSpore's logarithm on the CPU falls below some powers of two."""

import math

import numpy as np
from numpy.typing import NDArray


def bucket_distances(distances: NDArray[np.int64], buckets: int, most: int) -> NDArray[np.int64]:
    """Sort distances between tokens into buckets: near ones have one each, far ones share them by octaves.

    Parameters
    ----------
    distances
        Any shape; negative for what comes before.
    buckets
        How many there are: half for what comes before, and half for what follows.
    most
        From which distance on all share the last.

    Returns
    -------
    Of the same shape.

    References
    ----------
    ``T5Attention._relative_position_bucket`` of transformers.
    """
    half = buckets // 2
    single = half // 2
    sizes = np.abs(distances)
    octaves = np.log(np.maximum(sizes, single).astype(np.float32) / np.float32(single)) / math.log(most / single)
    wide = np.minimum(single + (octaves * (half - single)).astype(np.int64), half - 1)
    unsigned: NDArray[np.int64] = np.where(sizes < single, sizes, wide)
    return unsigned + half * (distances > 0)
