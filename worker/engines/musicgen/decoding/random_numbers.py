"""Random numbers that depend only on the seed and the position.

So neither the other sequences in the batch nor an interruption changes the random numbers of a sequence.

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
        The seed of the sample, at least 0.
    position
        The position of the tokens in the sequence; the start token is at position 0.

    Returns
    -------
    Shape (codebooks, vocabulary), uniform in [0, 1).
    """
    # The low words of Philox's counter count the random numbers of one position; the highest word is the position.
    generator = np.random.Philox(key=seed, counter=[0, 0, 0, position])
    return np.random.Generator(generator).random((codebooks, vocabulary))
