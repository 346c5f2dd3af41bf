"""A model's parts where OpenVINO decodes: on CPUs, in eight bits or four, several times as fast as MindSpore."""

from pathlib import Path

from worker.engines.musicgen.backends.openvino.codec import Codec
from worker.engines.musicgen.backends.openvino.decoder import PagedDecoder
from worker.engines.musicgen.backends.openvino.graph_cache import Compiled, Compiler
from worker.engines.musicgen.backends.openvino.text_encoder import TextEncoder
from worker.engines.musicgen.decoding.batch_size import recall_rows
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.pipeline import Parts


def load(folder: Path, config: ModelConfig, precision: str, cache_bytes_most: int, kept: Path) -> Parts:
    """Load a model.

    Parameters
    ----------
    kept
        Where compiled graphs are kept.

    Raises
    ------
    JobFailedError
        Its files cannot be used.
    """
    weights = Weights.open(folder, config)
    exact = Compiler(folder, "float32", kept)  # text and codec, whatever the decoder's precision
    compiled = Compiled.load(folder, config.decoder, weights, precision, kept)
    decoder = PagedDecoder(compiled, cache_bytes_most)
    return Parts(
        text=TextEncoder(config, weights, exact),
        codec=Codec(config.codec, weights, exact),
        decoder=decoder,
        rows_most=recall_rows(compiled.path.with_suffix(".rows"), decoder, config.decoder),
        close=decoder.close,
    )
