"""Loads a model into OpenVINO: on CPUs and with 8-bit or 4-bit weights, it is several times as fast as MindSpore."""

from functools import partial
from pathlib import Path

from worker.devices import Device
from worker.engines.musicgen.backends.openvino.codec import Codec
from worker.engines.musicgen.backends.openvino.decoder import OpenVinoDecoder
from worker.engines.musicgen.backends.openvino.graph_cache import CompiledDecoder, GraphCompiler
from worker.engines.musicgen.backends.openvino.text_encoder import TextEncoder
from worker.engines.musicgen.decoding.batch_size import load_or_measure_slots
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import BackendModel, MusicgenPipeline


def load_generator(key: ModelKey, device: Device, limits: BatchLimits, compiled_folder: Path) -> MusicgenPipeline:  # noqa: ARG001 - OpenVINO computes on CPUs only
    """Load a model; see `worker.engines.musicgen.backends.registry.Load`."""
    load_model = partial(
        load,
        key.folder,
        precision=key.precision,
        max_cache_bytes=limits.max_cache_bytes,
        compiled_folder=compiled_folder,
    )
    return MusicgenPipeline(key.folder, "openvino", key.precision, load_model, limits)


def load(
    folder: Path, config: ModelConfig, precision: str, max_cache_bytes: int, compiled_folder: Path
) -> BackendModel:
    """Load the parts of a model.

    Parameters
    ----------
    folder
        The model's folder.
    max_cache_bytes
        How much memory the decoder's caches may take.
    compiled_folder
        The folder for stored graphs.

    Raises
    ------
    JobFailedError
        The model's files cannot be used.
    """
    weights = Weights.open(folder, config)
    # The text encoder and the codec are always computed in float32, whatever the precision of the decoder is.
    compiler = GraphCompiler(folder, "float32", compiled_folder)
    compiled = CompiledDecoder.load(folder, config.decoder, weights, precision, compiled_folder)
    decoder = OpenVinoDecoder(compiled, max_cache_bytes)
    return BackendModel(
        text=TextEncoder(config, weights, compiler),
        codec=Codec(config.codec, weights, compiler),
        decoder=decoder,
        max_slots=load_or_measure_slots(compiled.path.with_suffix(".slots"), decoder, config.decoder),
        close=decoder.close,
    )
