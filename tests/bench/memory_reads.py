"""What a step of MusicGen's decoder reads, and how fast this machine reads memory: the least that a step takes."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from worker.engines.musicgen.backends.openvino.graph_cache import KV_CACHE_PRECISIONS
from worker.engines.musicgen.backends.openvino.weight_formats import INT4_GROUP
from worker.engines.musicgen.model.configuration import DecoderConfig

READ_BYTES: Final = 1 << 30
REPEATS: Final = 9
FLOAT_BYTES: Final = 4
NUMBER_BYTES: Final = {"f32": 4, "bf16": 2, "f16": 2}
"""As OpenVINO names what it computes in."""
WEIGHT_BYTES: Final = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5 + (FLOAT_BYTES + 0.5) / INT4_GROUP}
"""Of a matrix; int4 has a scale and a middle per group. That int8 has a scale per output is less than a hundredth."""


def measure_bytes_per_s() -> float:
    """Sum 1 GiB with a thread on each core; return the fastest of some repeats.

    Integers, because NumPy sums floats more slowly than one core reads. To be called in a process of its own.
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
    """Count the weights that a step reads: all but the embeddings, and the text's keys and values."""
    attention = 4 * config.hidden**2
    cross_attention = 2 * config.hidden**2
    feed_forward = 2 * config.hidden * config.feed_forward
    norm = 2 * config.hidden
    head = config.codebooks * config.vocabulary * config.hidden
    return config.layers * (attention + cross_attention + feed_forward + 3 * norm) + norm + head


def count_cache_bytes(config: DecoderConfig, rows: int, positions: int, number_bytes: int = FLOAT_BYTES) -> int:
    """Count the bytes of the keys and values of so many positions."""
    return 2 * config.layers * rows * positions * config.hidden * number_bytes


def count_step_bytes(config: DecoderConfig, precision: str, rows: int, positions: int, text_tokens: int) -> float:
    """Count the bytes that a step reads: weights, the rows' keys and values, and the text's, which are float32.

    Parameters
    ----------
    precision
        A key of ``WEIGHT_BYTES``.
    positions
        How many each row has read.
    text_tokens
        How many each row attends to.
    """
    cache = count_cache_bytes(config, rows, positions, NUMBER_BYTES[KV_CACHE_PRECISIONS[precision]])
    text = count_cache_bytes(config, rows, text_tokens)
    return WEIGHT_BYTES[precision] * count_read_weights(config) + cache + text
