"""Loads a model into MindSpore."""

from functools import partial
from pathlib import Path

from worker.devices import Device
from worker.engines import mindspore_device
from worker.engines.musicgen.backends.mindspore.buckets import BATCH_SIZES
from worker.engines.musicgen.backends.mindspore.codec import Codec
from worker.engines.musicgen.backends.mindspore.decoder import DecoderCells, MindSporeDecoder
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.backends.mindspore.text_encoder import TextEncoder
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import BackendModel, MusicgenPipeline


def load_generator(key: ModelKey, device: Device, limits: BatchLimits, compiled_folder: Path) -> MusicgenPipeline:  # noqa: ARG001 - MindSpore stores no graphs on disk
    """Load a model; see `worker.engines.musicgen.backends.registry.Load`."""
    target = Target(mindspore_device.name_target(device.device_class), key.precision)
    return MusicgenPipeline(key.folder, "mindspore", key.precision, partial(load, key.folder, target=target), limits)


@run_exclusively
def load(folder: Path, config: ModelConfig, target: Target) -> BackendModel:
    """Load the parts of a model.

    Raises
    ------
    JobFailedError
        The model's files cannot be used.
    """
    weights = Weights.open(folder, config)
    decoder_weights = DecoderWeights(config.decoder, weights, target)
    return BackendModel(
        text=TextEncoder(config, weights, target),
        codec=Codec(config.codec, weights, target),
        decoder=MindSporeDecoder(DecoderCells(decoder_weights)),
        max_slots=BATCH_SIZES[-1],  # as measured, a step of 16 rows takes hardly longer than a step of 5 rows
        close=decoder_weights.release,
    )
