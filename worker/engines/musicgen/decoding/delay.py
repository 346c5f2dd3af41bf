"""The delay pattern: codebook i is delayed by i steps, so that each step predicts a token of every codebook.

In a stereo model, the left and the right codebook of a pair have the same delay.

References
----------
Copet et al. 2023, "Simple and controllable music generation", section 2.2;
``build_delay_pattern_mask`` of transformers.
"""

from typing import Final

import numpy as np

from shared.kinds.musicgen.lengths import get_delays
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.request import Codes, Tokens

TO_GENERATE: Final = -1


def build_pattern(prompt: Codes | None, new_tokens: int, config: DecoderConfig) -> Tokens:
    """Build the whole sequence: the given tokens, and ``TO_GENERATE`` wherever a token must be generated.

    Parameters
    ----------
    prompt
        The codes of the clip; ``None`` if there is no clip.
    new_tokens
        How many positions to generate after the start token and the clip.

    Returns
    -------
    Shape (codebooks, positions).
    """
    frames = 0 if prompt is None else prompt.shape[1]
    length = 1 + frames + new_tokens
    pattern = np.full((config.codebooks, length), TO_GENERATE, dtype=np.int32)
    delays = get_delays(length, config)
    for codebook, delay in enumerate(delays):
        pattern[codebook, : 1 + delay] = config.start
        if prompt is not None:
            given = prompt[codebook, : length - 1 - delay]
            pattern[codebook, 1 + delay : 1 + delay + len(given)] = given
        pattern[codebook, length - max(delays) + delay :] = config.start
    return pattern


def remove_delays(tokens: Tokens, config: DecoderConfig) -> Codes:
    """Remove the delays, the start tokens and the padding from a finished sequence.

    Returns
    -------
    Shape (codebooks, frames), including the frames of the clip.
    """
    length = tokens.shape[1]
    delays = get_delays(length, config)
    frames = length - 1 - max(delays)
    codebooks = [row[1 + delay : 1 + delay + frames] for row, delay in zip(tokens, delays, strict=True)]
    return np.stack(codebooks, dtype=np.int16)
