"""The prompt, the sampling and the positions of timed steps with which every implementation of MusicGen is measured.

This module imports only the standard library, because the environment of the baselines has few packages.
"""

import itertools
from collections.abc import Mapping
from typing import Final

PROMPT: Final = "80s pop track with bassy drums and synth"
GUIDANCE_SCALE: Final = 3.0
TEMPERATURE: Final = 1.0
TOP_K: Final = 250

TIMED_POSITIONS: Final = (0, 250, 500)
"""The positions around which the steps of one job are timed: 10 s of music of a published model have 500 positions."""
STEPS: Final = 9
"""How many steps are timed around each of ``TIMED_POSITIONS``."""
BATCH_STEPS: Final = 24
"""How many steps are timed, from the start of the sequences, if several jobs share a batch."""
CODEC_FRAMES: Final = 500


def find_start(position: int) -> int:
    """Return how many known positions, besides the start token, are read before steps around ``position`` are timed."""
    return max(position - STEPS // 2 - 1, 0)


def average_over_positions(values: Mapping[int, float]) -> float:
    """Average over all positions from the first to the last, by the trapezoidal rule.

    Parameters
    ----------
    values
        For each position, the value that was measured around it; at least two positions.
    """
    pairs = list(itertools.pairwise(sorted(values.items())))
    area = sum((left + right) / 2 * (end - start) for (start, left), (end, right) in pairs)
    return area / (max(values) - min(values))
