"""The backend MindSpore for ``compare_full_size``; pass it as ``tests.references.mindspore_full_size:compute``."""

import dataclasses
from pathlib import Path
from typing import Any, Final

import mindspore
import numpy as np
from numpy.typing import NDArray

from tests.references.compare_full_size import Inputs, Outputs
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.decoder import DecoderCells, MindSporeDecoder
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.text_encoder import TextEncoder
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights

SLOTS: Final = 2


def compute(folder: Path, inputs: Inputs) -> Outputs:
    """Compute the outputs with MindSpore, with the same cells as jobs use; the function has the type ``Compute``."""
    mindspore.set_device("CPU")
    config, target = ModelConfig.read(folder), Target()
    weights = Weights.open(folder, config)
    (ids,) = inputs.input_ids
    logits = _decode(config, weights, target, TextEncoder(config, weights, target).encode(ids), inputs.tokens)
    return Outputs(
        text_states=_encode_unprojected(config, weights, target, ids)[None],
        logits=logits,
        audio=Codec(config.codec, weights, target).decode(inputs.codes),
    )


def _encode_unprojected(config: ModelConfig, weights: Weights, target: Target, ids: Any) -> NDArray[np.float32]:
    """Encode the text, and return its states as they are before the projection to the hidden size of the decoder.

    If the decoder has the hidden size of the text encoder, there is no projection. So the configuration is changed to
    this size.
    """
    decoder = dataclasses.replace(config.decoder, hidden=config.text.hidden)
    return TextEncoder(dataclasses.replace(config, decoder=decoder), weights, target).encode(ids).states


def _decode(
    config: ModelConfig, weights: Weights, target: Target, text: TextStates, tokens: NDArray[np.int16]
) -> NDArray[np.float32]:
    """Read the tokens step by step in a slot with the text and in a slot without the text.

    Returns
    -------
    The logits: shape (slots, codebooks, positions, codes).
    """
    decoder = MindSporeDecoder(DecoderCells(DecoderWeights(config.decoder, weights, target)))
    slots = [decoder.admit(of_slot, tokens.shape[1]) for of_slot in (text, None)]
    steps = [
        decoder.step(
            slots, np.tile(column.astype(np.int32), (SLOTS, 1)), np.full(SLOTS, position, dtype=np.int32)
        ).copy()
        for position, column in enumerate(tokens.T)
    ]
    return np.stack(steps, axis=2)
