"""EnCodec's residual vector quantisation, in NumPy.

NumPy is used because not every device multiplies precisely enough to find the nearest vector.

References
----------
Défossez et al. 2022, "High Fidelity Neural Audio Compression", section 3.2.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.model.configuration import CodecConfig
from worker.engines.musicgen.model.tensors import CODEC
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.request import Codes

Rows = NDArray[np.float32]
"""Shape (length, channels)."""


def read_embeddings(config: CodecConfig, weights: Weights) -> list[Rows]:
    """Read the vectors of the codebooks: one array per codebook, shape (codes, size)."""
    return [weights.read(f"{CODEC}.quantizer.layers.{index}.codebook.embed") for index in range(config.codebooks)]


def quantise(states: Rows, embeddings: Sequence[Rows]) -> Codes:
    """Find the code of each frame in each codebook: the index of the vector nearest to the residual.

    The residual is the state minus the vectors found in the previous codebooks.

    Parameters
    ----------
    states
        Shape (frames, size).
    embeddings
        One array per codebook, shape (codes, size).

    Returns
    -------
    Shape (codebooks, frames).

    References
    ----------
    The distance is computed as in ``modeling_encodec.py`` of transformers.
    """
    codes = np.empty((len(embeddings), len(states)), dtype=np.int16)
    for indices, embedding in zip(codes, embeddings, strict=True):
        length = np.square(states).sum(axis=1, keepdims=True)
        distance = length - 2 * states @ embedding.T + np.square(embedding).sum(axis=1)
        indices[:] = distance.argmin(axis=1)
        states = states - embedding[indices]
    return codes


def restore(codes: Codes, embeddings: Sequence[Rows]) -> Rows:
    """Add up, for each frame, the vectors that its codes stand for.

    Codes of shape (codebooks, frames) give a result of shape (frames, size).
    """
    states = np.zeros((codes.shape[1], embeddings[0].shape[1]), dtype=np.float32)
    for embedding, indices in zip(embeddings, codes, strict=True):
        states += embedding[indices]
    return states
