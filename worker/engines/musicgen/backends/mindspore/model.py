"""A model's parts in MindSpore."""

from pathlib import Path

from worker.engines.musicgen.backends.mindspore.buckets import ROWS
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.decoder import Compiled, MindSporeDecoder
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.backends.mindspore.text_encoder import TextEncoder
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.pipeline import BackendModel


@run_exclusively
def load(folder: Path, config: ModelConfig, target: Target) -> BackendModel:
    """Load a model.

    Raises
    ------
    JobFailedError
        Its files cannot be used.
    """
    weights = Weights.open(folder, config)
    decoder = DecoderWeights(config.decoder, weights, target)
    return BackendModel(
        text=TextEncoder(config, weights, target),
        codec=Codec(config.codec, weights, target),
        decoder=MindSporeDecoder(Compiled(decoder)),
        max_slots=ROWS[-1],  # measured once: a step of 16 rows takes hardly longer than one of 5
        close=decoder.release,
    )
