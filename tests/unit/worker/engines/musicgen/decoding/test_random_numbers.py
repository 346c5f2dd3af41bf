"""Random numbers depend on a seed and a position, and on nothing else."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

from shared.kinds.musicgen.parameters import MAX_SEED
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms


def draw_many(seeds: list[int], positions: range) -> NDArray[np.float64]:
    return np.stack([draw_uniforms(seed, position, 4, 2_048) for seed in seeds for position in positions])


def test_the_generator_is_the_same_as_in_earlier_versions() -> None:
    np.testing.assert_array_equal(
        draw_uniforms(0, 1, 1, 4), [[0.34218278474233466, 0.5765144536585864, 0.08665198221933101, 0.635531779794157]]
    )
    np.testing.assert_array_equal(
        draw_uniforms(MAX_SEED, 1_503, 2, 2),
        [[0.22503650668399577, 0.9658520665857804], [0.9577316396488911, 0.2850492233300016]],
    )


def test_numbers_depend_neither_on_earlier_draws_nor_on_the_number_of_codebooks() -> None:
    first = draw_uniforms(7, 5, 4, 64)
    draw_uniforms(7, 4, 4, 64)
    draw_uniforms(8, 5, 4, 64)
    np.testing.assert_array_equal(draw_uniforms(7, 5, 4, 64), first)
    np.testing.assert_array_equal(draw_uniforms(7, 5, 8, 64)[:4], first)


def test_each_seed_and_position_has_different_numbers() -> None:
    drawn = draw_many([0, 1, 2, 2**32, 2**62, MAX_SEED - 1, MAX_SEED], range(1, 4))
    assert len(np.unique(drawn)) == drawn.size


def test_numbers_are_uniform() -> None:
    drawn = draw_many([11], range(1, 51))
    assert drawn.dtype == np.float64
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert chisquare(np.bincount((drawn * 256).astype(int).ravel(), minlength=256)).pvalue > 0.001


def test_neighbouring_numbers_are_independent() -> None:
    drawn = draw_many([0, 1], range(1, 26)).reshape(2, 25, 4, 2_048)
    pairs = {
        "tokens": (drawn[..., :-1], drawn[..., 1:]),
        "codebooks": (drawn[:, :, :-1], drawn[:, :, 1:]),
        "positions": (drawn[:, :-1], drawn[:, 1:]),
        "seeds": (drawn[:1], drawn[1:]),
    }
    for name, (first, second) in pairs.items():
        cells = (first * 16).astype(int) * 16 + (second * 16).astype(int)
        assert chisquare(np.bincount(cells.ravel(), minlength=256)).pvalue > 0.001, name
