"""What every contender is to do: the prompt, how tokens are chosen, and at which positions steps are timed.

Imports nothing, because PyTorch's environment has little.
"""

import itertools
from collections.abc import Mapping
from typing import Final

PROMPT: Final = "80s pop track with bassy drums and synth"
GUIDANCE_SCALE: Final = 3.0
TEMPERATURE: Final = 1.0
TOP_K: Final = 250

PLACES: Final = (0, 250, 500)
"""The positions around which the steps of one job are timed: 10 s of the published models have 500."""
STEPS: Final = 9
"""How many steps are timed around each."""
SIDE_STEPS: Final = 24
"""How many are timed from the start on, where there are several jobs."""
CODEC_FRAMES: Final = 500


def find_start(place: int) -> int:
    """Find the position that is read, untimed, before the steps around a place are."""
    return max(place - STEPS // 2 - 1, 0)


def average(values: Mapping[int, float]) -> float:
    """Average over all positions between the first and the last, by trapezoids.

    Parameters
    ----------
    values
        Position to what was measured around it; at least two.
    """
    pairs = list(itertools.pairwise(sorted(values.items())))
    area = sum((left + right) / 2 * (end - start) for (start, left), (end, right) in pairs)
    return area / (max(values) - min(values))
