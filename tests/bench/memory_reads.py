"""What limits the speed of a decoder's step: how many bytes a step reads, and how fast this machine reads memory."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from worker.engines.musicgen.backends.openvino.compile_options import KV_CACHE_PRECISIONS
from worker.engines.musicgen.backends.openvino.weight_formats import INT4_GROUP
from worker.engines.musicgen.model.configuration import DecoderConfig

READ_BYTES: Final = 1 << 30
REPEATS: Final = 9
FLOAT_BYTES: Final = 4
NUMBER_BYTES: Final = {"f32": 4, "bf16": 2, "f16": 2}
"""For each number format, as OpenVINO names it, the bytes of one number."""
WEIGHT_BYTES: Final = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5 + (FLOAT_BYTES + 0.5) / INT4_GROUP}
"""For each precision, the bytes per weight of a matrix. For int4, this includes the scale and the zero point of each
group. For int8, it does not include the scale of each output, which is less than a percent of the size."""


def measure_bytes_per_s() -> float:
    """Sum 1 GiB with a thread on each core; return the speed of the fastest of several repeats.

    The numbers are integers, because NumPy sums floats more slowly than a core reads them from memory. Call this
    function in a process of its own.
    """
    cores = len(os.sched_getaffinity(0))
    numbers = np.ones(READ_BYTES // 8, dtype=np.int64)
    parts = np.array_split(numbers, cores)
    times_s = []
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(REPEATS):
            start_s = time.perf_counter()
            list(threads.map(np.sum, parts))
            times_s.append(time.perf_counter() - start_s)
    return READ_BYTES / min(times_s)


def count_read_weights(config: DecoderConfig) -> int:
    """Count the weights that a step reads.

    A step reads all weights except the embeddings and the matrices that compute the keys and values of the text.
    """
    attention = 4 * config.hidden**2
    cross_attention = 2 * config.hidden**2
    feed_forward = 2 * config.hidden * config.feed_forward
    norm = 2 * config.hidden
    head = config.codebooks * config.vocabulary * config.hidden
    return config.layers * (attention + cross_attention + feed_forward + 3 * norm) + norm + head


def count_cache_bytes(config: DecoderConfig, slots: int, positions: int, number_bytes: int = FLOAT_BYTES) -> int:
    """Count the bytes of the keys and values of ``slots`` slots with ``positions`` positions each."""
    return 2 * config.layers * slots * positions * config.hidden * number_bytes


def count_step_bytes(config: DecoderConfig, precision: str, slots: int, positions: int, text_tokens: int) -> float:
    """Count the bytes that a step reads: the weights, the keys and values of the slots, and those of the text.

    The keys and values of the text are in float32 in every precision.

    Parameters
    ----------
    precision
        A key of ``WEIGHT_BYTES``.
    positions
        The number of positions in the cache of each slot.
    text_tokens
        The number of text tokens that each slot attends to.
    """
    cache = count_cache_bytes(config, slots, positions, NUMBER_BYTES[KV_CACHE_PRECISIONS[precision]])
    text = count_cache_bytes(config, slots, text_tokens)
    return WEIGHT_BYTES[precision] * count_read_weights(config) + cache + text
