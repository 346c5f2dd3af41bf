"""What a step of MusicGen's decoder reads, and how fast this machine reads memory: the least that a step takes."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from worker.engines.musicgen.configuration import DecoderConfig

READ_BYTES: Final = 1 << 30
REPEATS: Final = 9
FLOAT_BYTES: Final = 4


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


def count_cache_bytes(config: DecoderConfig, rows: int, positions: int) -> int:
    """Count the bytes of float32 keys and values of so many positions."""
    return 2 * config.layers * rows * positions * config.hidden * FLOAT_BYTES
