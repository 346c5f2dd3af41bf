"""What every implementation of MusicGen is measured with: the prompt, the sampling, and the positions of timed steps.

It imports only the standard library, because the baselines' environment contains little.
"""

import itertools
from collections.abc import Mapping
from typing import Final

PROMPT: Final = "80s pop track with bassy drums and synth"
GUIDANCE_SCALE: Final = 3.0
TEMPERATURE: Final = 1.0
TOP_K: Final = 250

TIMED_POSITIONS: Final = (0, 250, 500)
"""The positions around which the steps of one job are timed: 10 s of the published models have 500."""
STEPS: Final = 9
"""How many steps are timed around each."""
BATCH_STEPS: Final = 24
"""How many steps are timed, from the start on, if several jobs share a batch."""
CODEC_FRAMES: Final = 500


def find_start(position: int) -> int:
    """Return up to which position tokens are read, untimed, before the steps around a position."""
    return max(position - STEPS // 2 - 1, 0)


def average_over_positions(values: Mapping[int, float]) -> float:
    """Average over all positions from the first to the last, by the trapezoidal rule.

    Parameters
    ----------
    values
        Position to what was measured around it; at least two.
    """
    pairs = list(itertools.pairwise(sorted(values.items())))
    area = sum((left + right) / 2 * (end - start) for (start, left), (end, right) in pairs)
    return area / (max(values) - min(values))
