"""Decodes the part of a file that a model is to continue, in the form that the model reads.

The file is decoded from its beginning, and samples are counted: so a part begins exactly where it was asked for, which
jumping cannot promise. MP3 frames use data of earlier frames, and many files state times wrongly or not at all.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.audio.container import open_audio
from shared.audio.decoding import Block, Decoding, find_peak
from shared.audio.errors import AudioError
from shared.audio.facts import END_TOLERANCE_S
from shared.audio.inspecting import find_reading_warnings
from shared.audio.meter import Meter, find_scale
from shared.audio.mixing import is_surround, limit_peak, mix
from shared.audio.resampling import resample
from shared.texts import Text, text


@dataclass(frozen=True)
class WantedPart:
    """Which part of a file is wanted, and in which form.

    Parameters
    ----------
    start_s, end_s
        The part; until the end of the file if ``end_s`` is ``None``.
    max_length_s
        If the part is longer, it is measured and not returned.
    rate_hz, channels
        The sampling rate and the number of channels (1 or 2) of the model.
    """

    start_s: float
    end_s: float | None
    max_length_s: float
    rate_hz: int
    channels: int


@dataclass(frozen=True)
class DecodedPart:
    """A part of a file.

    Parameters
    ----------
    samples
        Shape (samples, channels): from n samples of the file exactly ``round(n * rate_hz / rate of the file)``.
        Empty if the part is longer than wanted.
    read_s
        The length of the file, as far as it was decoded.
    part_s
        The length of the part.
    ended
        Whether the file was decoded to its end.
    warnings
        What is unusual about the part.
    """

    samples: NDArray[np.float32]
    read_s: float
    part_s: float
    ended: bool
    warnings: list[Text]


def decode_part(path: Path, wanted: WantedPart, max_s: float) -> DecodedPart:
    """Decode a part of a file.

    Parameters
    ----------
    max_s
        How much of the file may be decoded.

    Raises
    ------
    AudioError
        The file has no sound that can be read.
    """
    with open_audio(path) as audio:
        decoding = Decoding(audio, max_s)
        cutter = _Cutter(wanted)
        ended = True
        for block in decoding.read_blocks():
            cutter.add(block)
            # The scale of floating-point samples can depend on the rest of the file, which takes no time to decode.
            if cutter.is_complete and not audio.is_float:
                ended = False
                break
        if decoding.first is None:
            raise AudioError(text("sound-empty", format=audio.format))
        find_scale(cutter.meter.peak, is_float=True)
        scale = find_scale(cutter.peak, is_float=audio.is_float)
        warnings = [*cutter.meter.find_warnings(scale), *find_reading_warnings(decoding)] if cutter.part_s else []
        samples = cutter.render(scale) if cutter.part_s <= wanted.max_length_s else cutter.render_nothing()
    return DecodedPart(samples, cutter.position_s, cutter.part_s, ended, warnings)


class _Cutter:
    """Keeps the wanted samples of the blocks of a file, mixed to the channels of the model."""

    def __init__(self, wanted: WantedPart) -> None:
        self._wanted = wanted
        self._form: tuple[int, tuple[str, ...]] | None = None
        self._form_start_s = 0.0
        self._position = 0
        self._kept: list[tuple[int, list[NDArray[np.float32]]]] = []
        self._counts: Counter[int] = Counter()
        self._limits_peak = False
        self.meter = Meter()
        self.peak = 0.0
        """The largest absolute value of all finite samples so far."""

    @property
    def position_s(self) -> float:
        """How much of the file has been added."""
        return self._form_start_s + (0.0 if self._form is None else self._position / self._form[0])

    @property
    def part_s(self) -> float:
        """The length of the wanted part so far."""
        return sum(count / rate_hz for rate_hz, count in self._counts.items())

    @property
    def is_complete(self) -> bool:
        end_s = self._wanted.end_s
        return end_s is not None and self.position_s >= end_s + END_TOLERANCE_S

    def add(self, block: Block) -> None:
        """Add the next block of the file."""
        if block.form != self._form:
            self._form_start_s, self._position, self._form = self.position_s, 0, block.form
            self._kept.append((block.rate_hz, []))
        first = round((self._wanted.start_s - self._form_start_s) * block.rate_hz) - self._position
        last = len(block.samples)
        if self._wanted.end_s is not None:
            last = min(last, round((self._wanted.end_s - self._form_start_s) * block.rate_hz) - self._position)
        self._position += len(block.samples)
        peak = find_peak(block.samples)
        if not math.isfinite(peak):
            peak = find_peak(block.samples[np.isfinite(block.samples)])
        self.peak = max(self.peak, peak)
        part = Block(block.samples[max(first, 0) : max(last, 0)], *block.form)
        if not len(part.samples):
            return
        self._counts[block.rate_hz] += len(part.samples)
        self.meter.add(part)
        if self.part_s > self._wanted.max_length_s + END_TOLERANCE_S:
            self._kept = [(block.rate_hz, [])]  # too long: from here on, only the length is counted
            return
        self._limits_peak = self._limits_peak or is_surround(block.layout)
        self._kept[-1][1].append(mix(part.samples, part.layout, self._wanted.channels))

    def render(self, scale: float) -> NDArray[np.float32]:
        """Return the part at the rate of the model."""
        parts = [(rate_hz, np.concatenate(mixed) / np.float32(scale)) for rate_hz, mixed in self._kept if mixed]
        resampled = [resample(part, rate_hz, self._wanted.rate_hz) for rate_hz, part in parts]
        whole = np.concatenate([self.render_nothing(), *resampled])
        return limit_peak(whole) if self._limits_peak else whole

    def render_nothing(self) -> NDArray[np.float32]:
        """Return no samples."""
        return np.zeros((0, self._wanted.channels), np.float32)
