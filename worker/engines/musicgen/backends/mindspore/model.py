"""A model's parts in MindSpore."""

from pathlib import Path

from worker.engines.musicgen.backends.mindspore.buckets import ROWS
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.decoder import Compiled, NetworkDecoder
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.lock import take_turns
from worker.engines.musicgen.backends.mindspore.text_encoder import TextEncoder
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.pipeline import Parts


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
