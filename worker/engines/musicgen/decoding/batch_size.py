"""How many rows a decoder should run side by side."""

import json
import logging
import time
from pathlib import Path
from typing import Final

import numpy as np

from worker.engines.musicgen.decoding.decoder import Decoder
from worker.engines.musicgen.model.configuration import DecoderConfig

SUFFICIENT_SHARE: Final = 0.9
"""Of the most tokens per second; more rows for the rest would make each wait longer for next to nothing."""
STOP_SHARE: Final = 0.7
"""Of the most so far; with still more rows it is not going to rise again."""
MAX_SLOTS: Final = 64
STEPS: Final = 4

logger = logging.getLogger(__name__)


def measure_slots(decoder: Decoder, config: DecoderConfig) -> int:
    """Find how few rows make about as many tokens together as any number does, on a decoder that runs nothing else."""
    paces: dict[int, float] = {}
    rows = 1
    while rows <= MAX_SLOTS and (not paces or paces[rows // 2] > STOP_SHARE * max(paces.values())):
        paces[rows] = rows / _time_step(decoder, config, rows)
        rows *= 2
    best = max(paces.values())
    chosen = min(rows for rows, pace in paces.items() if pace >= SUFFICIENT_SHARE * best)
    logger.info("%d rows side by side: %.0f positions per second, of at most %.0f", chosen, paces[chosen], best)
    return chosen


def load_or_measure_slots(path: Path, decoder: Decoder, config: DecoderConfig) -> int:
    """Return what was measured before and kept in a file, or measure it and keep it."""
    try:
        return int(json.loads(path.read_text())["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        rows = measure_slots(decoder, config)
    try:
        path.write_text(json.dumps({"rows": rows}))
    except OSError as error:
        logger.warning("how many rows pay is not kept: %s", error)
    return rows


def _time_step(decoder: Decoder, config: DecoderConfig, count: int) -> float:
    """Return the shortest of a few steps, in seconds: what else the machine does makes none shorter."""
    rows = [decoder.admit(None, STEPS) for _ in range(count)]
    tokens = np.full((count, config.codebooks), config.start, dtype=np.int32)
    times_s = []
    for position in range(STEPS):
        start_s = time.perf_counter()
        decoder.step(rows, tokens, np.full(count, position, dtype=np.int32))
        times_s.append(time.perf_counter() - start_s)
    for row in rows:
        decoder.drop(row)
    return min(times_s)
