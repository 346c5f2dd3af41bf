"""The service's own model answers ``compare_full_size``: ``tests.references.own_full_size:compute``."""

import dataclasses
from pathlib import Path
from typing import Any, Final

import mindspore
import numpy as np
from numpy.typing import NDArray

from tests.references.compare_full_size import Answer, Question
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.decoder import Compiled, MindSporeDecoder
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.text_encoder import TextEncoder
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights

ROWS: Final = 2


def compute(folder: Path, question: Question) -> Answer:
    """Answer by MindSpore, through the cells that jobs go through: a ``Compute``."""
    mindspore.set_device("CPU")
    config, target = ModelConfig.read(folder), Target()
    weights = Weights.open(folder, config)
    (ids,) = question.input_ids
    logits = _decode(config, weights, target, TextEncoder(config, weights, target).encode(ids), question.tokens)
    return Answer(
        text_states=_encode_unprojected(config, weights, target, ids)[None],
        logits=logits,
        audio=Codec(config.codec, weights, target).decode(question.codes),
    )


def _encode_unprojected(config: ModelConfig, weights: Weights, target: Target, ids: Any) -> NDArray[np.float32]:
    """Encode as for a decoder of the text's own size, for which nothing is projected."""
    decoder = dataclasses.replace(config.decoder, hidden=config.text.hidden)
    return TextEncoder(dataclasses.replace(config, decoder=decoder), weights, target).encode(ids).states


def _decode(
    config: ModelConfig, weights: Weights, target: Target, text: TextStates, tokens: NDArray[np.int16]
) -> NDArray[np.float32]:
    """Let a row with the text and one without read the tokens, step by step.

    Returns
    -------
    Shape (rows, codebooks, positions, codes).
    """
    compiled = Compiled(DecoderWeights(config.decoder, weights, target))
    length = tokens.shape[1]
    decoder = MindSporeDecoder(compiled)
    rows = [decoder.admit(row, length) for row in (text, None)]
    steps = [
        decoder.step(rows, np.tile(column.astype(np.int32), (ROWS, 1)), np.full(ROWS, position, dtype=np.int32)).copy()
        for position, column in enumerate(tokens.T)
    ]
    return np.stack(steps, axis=2)
