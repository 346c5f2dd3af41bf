"""Compile the decoder's cells as for an Ascend NPU, half precision and all, without running them.

Started by a test in a process of its own, since MindSpore's mode holds for the whole process. MindSpore's wheel for
CPUs knows no other device, so what is specific to one (its kernels) is beyond reach here.
"""

import sys
import tempfile
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor

from tests.references.musicgen_cases import MONO
from worker.engines.musicgen.backends.mindspore.decoder_cells import CrossCell, DecoderCell
from worker.engines.musicgen.backends.mindspore.kv_cache import KvCache
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights

ROWS, CAPACITY, TEXT, POSITIONS = 8, 256, 32, 64


def compile_cells(precision: str) -> None:
    """Compile each cell; MindSpore returns nothing where it only compiles."""
    with tempfile.TemporaryDirectory() as name:
        MONO.write(Path(name))
        config = ModelConfig.read(Path(name))
        mindspore.Tensor.move_to = lambda tensor, _device: tensor  # there is no such device here
        target = Target("Ascend", precision)
        weights = DecoderWeights(config.decoder, Weights.open(Path(name), config), target)
    decoder = config.decoder
    shape = (ROWS, decoder.heads, CAPACITY, decoder.hidden // decoder.heads)
    caches = [
        KvCache.make(target, decoder.layers, (*shape[:2], size, shape[3])) for size in (CAPACITY, CAPACITY, TEXT, TEXT)
    ]
    mindspore.set_context(precompile_only=True)

    def send(*size: int) -> Tensor:
        return target.send(np.zeros(size, dtype=np.float32))

    def count(*size: int) -> Tensor:
        return Tensor.from_numpy(np.zeros(size, dtype=np.int32))

    outputs = [
        CrossCell(weights, TEXT)(send(TEXT, decoder.hidden)),
        DecoderCell(weights, ROWS, 1)(
            count(ROWS, decoder.codebooks),
            count(ROWS),
            send(ROWS, 1, 1, CAPACITY),
            send(ROWS, 1, 1, TEXT),
            *(cache.tensors for cache in caches),
        ),
        DecoderCell(weights, 1, POSITIONS)(
            count(POSITIONS, decoder.codebooks),
            count(POSITIONS),
            send(1, 1, 1, CAPACITY),
            send(1, 1, 1, TEXT),
            *(cache.take_row(1) for cache in caches),
        ),
    ]
    if any(output is not None for output in outputs):
        sys.exit("MindSpore has run what it was to compile only")
    sys.stdout.write(f"compiled for {target}\n")


if __name__ == "__main__":
    compile_cells(sys.argv[1])
