"""Compile the cells of the decoder for an Ascend NPU, also in half precision, without running the cells.

A test starts this program in a process of its own, because MindSpore's setting ``precompile_only`` applies to the whole
process. MindSpore's wheel for CPUs supports no other device, so the kernels of an NPU cannot be tested here.
"""

import sys
import tempfile
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor

from tests.references.musicgen_cases import MONO
from worker.engines.musicgen.backends.mindspore.decoder_cells import CrossKeyValueCell, DecoderCell
from worker.engines.musicgen.backends.mindspore.kv_cache import KvCache
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights

ROWS, CAPACITY, TEXT_TOKENS, POSITIONS = 8, 256, 32, 64


def compile_cells(precision: str) -> None:
    """Compile each cell. A cell that is only compiled and not run returns ``None``."""
    with tempfile.TemporaryDirectory() as name:
        MONO.write(Path(name))
        config = ModelConfig.read(Path(name))
        mindspore.Tensor.move_to = lambda tensor, _device: tensor  # this machine has no NPU
        target = Target("Ascend", precision)
        weights = DecoderWeights(config.decoder, Weights.open(Path(name), config), target)
    decoder = config.decoder
    head = decoder.hidden // decoder.heads
    caches = [
        KvCache.allocate(target, decoder.layers, (ROWS, decoder.heads, capacity, head))
        for capacity in (CAPACITY, CAPACITY, TEXT_TOKENS, TEXT_TOKENS)
    ]
    mindspore.set_context(precompile_only=True)

    def make_floats(*shape: int) -> Tensor:
        return target.to_tensor(np.zeros(shape, dtype=np.float32))

    def make_ints(*shape: int) -> Tensor:
        return Tensor.from_numpy(np.zeros(shape, dtype=np.int32))

    outputs = [
        CrossKeyValueCell(weights, TEXT_TOKENS)(make_floats(TEXT_TOKENS, decoder.hidden)),
        DecoderCell(weights, ROWS, 1)(
            make_ints(ROWS, decoder.codebooks),
            make_ints(ROWS),
            make_floats(ROWS, 1, 1, CAPACITY),
            make_floats(ROWS, 1, 1, TEXT_TOKENS),
            *(cache.tensors for cache in caches),
        ),
        DecoderCell(weights, 1, POSITIONS)(
            make_ints(POSITIONS, decoder.codebooks),
            make_ints(POSITIONS),
            make_floats(1, 1, 1, CAPACITY),
            make_floats(1, 1, 1, TEXT_TOKENS),
            *(cache.get_row(1) for cache in caches),
        ),
    ]
    if any(output is not None for output in outputs):
        sys.exit("MindSpore has run the cells, although it should only compile them")
    sys.stdout.write(f"compiled for {target}\n")


if __name__ == "__main__":
    compile_cells(sys.argv[1])
