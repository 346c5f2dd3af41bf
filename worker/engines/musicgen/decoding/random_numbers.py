"""Random numbers that depend on the seed and the position alone.

So neither the other sequences of the batch nor an interruption changes them.

References
----------
Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
"""

import numpy as np
from numpy.typing import NDArray


def draw_uniforms(seed: int, position: int, codebooks: int, vocabulary: int) -> NDArray[np.float64]:
    """Draw the random numbers with which the tokens of one position are sampled.

    Parameters
    ----------
    seed
        The sample's, at least 0.
    position
        Of the tokens in the sequence; the start token is at 0.

    Returns
    -------
    Shape (codebooks, vocabulary), uniform in [0, 1).
    """
    # The counter's low words count the numbers of one position; its highest word is the position.
    generator = np.random.Philox(key=seed, counter=[0, 0, 0, position])
    return np.random.Generator(generator).random((codebooks, vocabulary))
