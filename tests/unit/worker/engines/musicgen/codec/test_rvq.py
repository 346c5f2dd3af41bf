"""Residual vector quantisation."""

import numpy as np

from worker.engines.musicgen.codec.rvq import quantise


def test_each_codebook_selects_the_vector_nearest_to_the_residual() -> None:
    random = np.random.default_rng(0)
    embeddings = [random.standard_normal((32, 5), dtype=np.float32) / 2**index for index in range(3)]
    states = random.standard_normal((50, 5), dtype=np.float32)
    residual = states.astype(np.float64)
    for indices, embedding in zip(quantise(states, embeddings), embeddings, strict=True):
        np.testing.assert_array_equal(indices, np.linalg.norm(residual[:, None] - embedding, axis=-1).argmin(axis=1))
        residual -= embedding[indices]


def test_the_first_of_equally_near_vectors_is_selected() -> None:
    embedding = np.array([[3, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(quantise(np.zeros((2, 2), dtype=np.float32), [embedding]), [[1, 1]])
