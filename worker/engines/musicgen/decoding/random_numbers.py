"""Random numbers that belong to a row and a position, so that neither company nor an interruption changes them.

References
----------
Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
"""

import numpy as np
from numpy.typing import NDArray


def draw_uniforms(seed: int, position: int, codebooks: int, vocabulary: int) -> NDArray[np.float64]:
    """Draw the numbers with which the tokens of one position are sampled.

    Parameters
    ----------
    seed
        The sample's, at least 0.
    position
        Where in the sequence the tokens stand, the start token being at 0.

    Returns
    -------
    Shape (codebooks, vocabulary), uniform in [0, 1).
    """
    # The counter's lowest words count the numbers of one position; its highest is the position.
    generator = np.random.Philox(key=seed, counter=[0, 0, 0, position])
    return np.random.Generator(generator).random((codebooks, vocabulary))
