"""Measures sound while it is decoded, in constant memory, and says what is unusual about it."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from shared.audio.decoding import MAX_LEVEL, Block, find_peak
from shared.audio.errors import AudioError
from shared.audio.facts import SILENCE_DBFS
from shared.audio.mixing import mix
from shared.texts import Text, text

MAX_FLOAT_PEAK: Final = MAX_LEVEL
"""Floating-point samples beyond this peak are taken for integers: it is far above what is mixed too loudly, and at the
scale of 16-bit integers it is below -54 dBFS."""
_SCALES: Final = (2.0**15, 2.0**23, 2.0**31)
CANCELLATION_DB: Final = 20.0
"""How much quieter mono must be for the channels to count as cancelling each other. Independent channels lose 3 dB."""
MAX_OFFSET: Final = 0.05
"""From this mean on, a warning is given. Good converters have an offset of 0.1 % of full scale, and the mean of speech
and of wind instruments, whose waves are not symmetrical, is below 1 % over a second; at 5 % a clip that starts clicks
audibly."""


class Meter:
    """Adds up what is needed to judge the level, the offset and the phases of a sound."""

    def __init__(self) -> None:
        self._count = 0
        self._sums = np.zeros(2)
        self._squares = 0.0
        self._mono_squares = 0.0
        self._mixed_peak = 0.0
        self.peak = 0.0
        """The largest absolute value of all channels; NaN if one is NaN."""

    def add(self, block: Block) -> None:
        """Measure a block."""
        if not len(block.samples):
            return
        self.peak = float(np.maximum(self.peak, find_peak(block.samples)))
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by its peak
            sides = mix(block.samples, block.layout, 2)
            self._mixed_peak = float(np.maximum(self._mixed_peak, find_peak(sides)))
            self._count += len(sides)
            # Products of matrices take a tenth of the time of sums along the samples.
            self._sums += np.ones(len(sides), np.float32) @ sides
            products = sides.T @ sides
            self._squares += float(products[0, 0] + products[1, 1]) / 2
            self._mono_squares += float(products.sum()) / 4

    def find_warnings(self, scale: float) -> Iterator[Text]:
        """Say what is unusual about the sound.

        Parameters
        ----------
        scale
            What the samples are divided by.
        """
        if scale > 1:
            yield text("sound-integer-scale", peak=self.peak, scale=scale)
        silence = 10 ** (SILENCE_DBFS / 20)
        if self.peak / scale < silence:
            yield text("sound-silent", level_dbfs=SILENCE_DBFS)
            return
        if self._mixed_peak / scale < silence:
            drop_db = 20 * math.log10(self.peak / max(self._mixed_peak, self.peak * 1e-6))
        else:
            drop_db = 10 * math.log10(self._squares / max(self._mono_squares, self._squares * 1e-12))
        if drop_db > CANCELLATION_DB:
            yield text("sound-cancels", drop_db=drop_db)
        offset = float(np.abs(self._sums).max()) / self._count / scale
        if offset > MAX_OFFSET:
            yield text("sound-offset", offset=offset)


def find_scale(peak: float, *, is_float: bool) -> float:
    """Return by what samples must be divided: 1, or the full scale of integers that were stored as floats.

    Raises
    ------
    AudioError
        There are samples that are NaN, infinite, or larger than any integers of audio.
    """
    if not math.isfinite(peak):
        raise AudioError(text("sound-not-finite"))
    if not is_float or peak <= MAX_FLOAT_PEAK:
        return 1.0
    for scale in _SCALES:
        if peak <= scale:
            return scale
    raise AudioError(text("sound-too-loud", peak=peak))
