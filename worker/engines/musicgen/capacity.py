"""How many rows a decoder should run side by side."""

import json
import logging
import time
from pathlib import Path
from typing import Final

import numpy as np

from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.decoder import Decoder

GAIN_LEAST: Final = 1.1
"""Twice the rows must give so many times the tokens, or each waits for the others in vain."""
ROWS_MOST: Final = 128
STEPS: Final = 4

logger = logging.getLogger(__name__)


def measure_rows(decoder: Decoder, config: DecoderConfig) -> int:
    """Double the rows of a decoder that runs nothing else, for as long as they make more tokens together."""
    rows, pace = 1, 1 / _time_step(decoder, config, 1)
    while rows < ROWS_MOST:
        wider = 2 * rows / _time_step(decoder, config, 2 * rows)
        if wider < GAIN_LEAST * pace:
            break
        rows, pace = 2 * rows, wider
    logger.info("%d rows side by side make the most tokens, %.0f times %d per second", rows, pace, config.codebooks)
    return rows


def recall_rows(path: Path, decoder: Decoder, config: DecoderConfig) -> int:
    """Return what was measured before and kept in a file, or measure it and keep it."""
    try:
        return int(json.loads(path.read_text())["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        rows = measure_rows(decoder, config)
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
