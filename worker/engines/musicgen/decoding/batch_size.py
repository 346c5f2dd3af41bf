"""Measures how many slots of a decoder are worth running in one batch.

The measured rate is the number of positions per second, in all slots of the batch together.
"""

import json
import logging
import time
from pathlib import Path
from typing import Final

import numpy as np

from worker.engines.musicgen.decoding.decoder import Decoder
from worker.engines.musicgen.model.configuration import DecoderConfig

SUFFICIENT_SHARE: Final = 0.9
"""The chosen number of slots reaches at least this share of the highest rate. The last tenth of the rate would need so
many more slots that each sequence would take much longer."""
STOP_SHARE: Final = 0.7
"""The measurement ends when the rate has fallen below this share of the highest rate so far. With still more slots, the
rate does not rise again."""
MAX_SLOTS: Final = 64
STEPS: Final = 4

logger = logging.getLogger(__name__)


def measure_slots(decoder: Decoder, config: DecoderConfig) -> int:
    """Find the smallest number of slots with which the decoder reaches nearly its highest rate.

    The decoder must not run anything else during the measurement.
    """
    rates: dict[int, float] = {}
    slots = 1
    while slots <= MAX_SLOTS and (not rates or rates[slots // 2] > STOP_SHARE * max(rates.values())):
        rates[slots] = slots / _time_step(decoder, config, slots)
        slots *= 2
    highest = max(rates.values())
    chosen = min(slots for slots, rate in rates.items() if rate >= SUFFICIENT_SHARE * highest)
    logger.info(
        "up to %d slots per batch: %.0f positions per second (highest rate: %.0f)", chosen, rates[chosen], highest
    )
    return chosen


def load_or_measure_slots(path: Path, decoder: Decoder, config: DecoderConfig) -> int:
    """Return the number of slots that is stored in a file; if there is none, measure the number and store it."""
    try:
        return int(json.loads(path.read_text())["slots"])
    except (OSError, ValueError, KeyError, TypeError):
        slots = measure_slots(decoder, config)
    try:
        path.write_text(json.dumps({"slots": slots}))
    except OSError as error:
        logger.warning("the measured number of slots cannot be stored: %s", error)
    return slots


def _time_step(decoder: Decoder, config: DecoderConfig, count: int) -> float:
    """Run a few steps and return the duration of the shortest step, in seconds.

    The shortest step is the most accurate: other load on the machine makes steps longer, never shorter.
    """
    slots = [decoder.admit(None, STEPS) for _ in range(count)]
    tokens = np.full((count, config.codebooks), config.start, dtype=np.int32)
    times_s = []
    for position in range(STEPS):
        start_s = time.perf_counter()
        decoder.step(slots, tokens, np.full(count, position, dtype=np.int32))
        times_s.append(time.perf_counter() - start_s)
    for slot in slots:
        decoder.drop(slot)
    return min(times_s)
