"""A model's parts in MindSpore."""

from pathlib import Path

from worker.engines.musicgen.configuration import ModelConfig
from worker.engines.musicgen.native import Parts
from worker.engines.musicgen.network.codec import Codec
from worker.engines.musicgen.network.layers import Target
from worker.engines.musicgen.network.rows import Compiled, NetworkDecoder
from worker.engines.musicgen.network.shapes import ROWS
from worker.engines.musicgen.network.text import TextEncoder
from worker.engines.musicgen.network.turn import take_turns
from worker.engines.musicgen.network.weights import DecoderWeights
from worker.engines.musicgen.weights import Weights


@take_turns
def load(folder: Path, config: ModelConfig, target: Target) -> Parts:
    """Load a model.

    Raises
    ------
    JobFailedError
        Its files cannot be used.
    """
    weights = Weights.open(folder, config)
    decoder = DecoderWeights(config.decoder, weights, target)
    return Parts(
        text=TextEncoder(config, weights, target),
        codec=Codec(config.codec, weights, target),
        decoder=NetworkDecoder(Compiled(decoder)),
        rows_most=ROWS[-1],  # measured once: a step of 16 rows takes hardly longer than one of 5
        close=decoder.release,
    )
