"""Mixes the channels of a file to those of a model.

References
----------
ITU-R BS.775-4, annex 4: centre and surround channels are added at -3 dB, and the effects channel (LFE) is left out.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_MINUS_3_DB: Final = 0.5**0.5
# How much of a channel, by FFmpeg's name, the left and the right side get.
_WEIGHTS: Final[Mapping[str, tuple[float, float]]] = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (_MINUS_3_DB, _MINUS_3_DB),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
    "BL": (_MINUS_3_DB, 0.0),
    "BR": (0.0, _MINUS_3_DB),
    "SL": (_MINUS_3_DB, 0.0),
    "SR": (0.0, _MINUS_3_DB),
    "BC": (0.5, 0.5),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
}
STEREO: Final = 2
_GUESSES: Final = {
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""The layouts that files most probably have which do not state one, keyed by the number of channels: those of WAV
files before they could state it, in the order of WAV."""


def mix(samples: NDArray[np.float32], layout: Sequence[str], channels: int) -> NDArray[np.float32]:
    """Mix audio to mono or stereo.

    Mono is the mean of left and right, so that stereo and surround sound become equally loud. The result can be beyond
    full scale, which only whoever has all of it can prevent; see `limit_peak`.

    Parameters
    ----------
    samples
        Shape (samples, channels of the file).
    layout
        The names of the channels. If one is not known, left and right both get the mean of all channels.
    channels
        1 or 2.

    Returns
    -------
    NDArray[np.float32]
        Shape (samples, ``channels``).
    """
    if samples.shape[1] == channels:
        return samples
    if samples.shape[1] == 1:
        return np.repeat(samples, channels, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # samples that are not finite are found by `shared.audio.meter`
        return np.asarray(samples @ _get_matrix(tuple(layout), channels), np.float32)


def guess_layout(unknown: Sequence[str]) -> tuple[str, ...]:
    """Return the most probable layout of channels whose names are not known; unchanged if there is none."""
    return _GUESSES.get(len(unknown), tuple(unknown))


def is_surround(layout: Sequence[str]) -> bool:
    """Return whether channels are added up, so that a mix can be louder than each of them."""
    return len(layout) > STEREO and set(layout) <= set(_WEIGHTS)


def limit_peak(mixed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make a mix of added channels so much quieter, all of it equally, that it is nowhere beyond full scale."""
    peak = np.abs(mixed).max(initial=0.0)
    return mixed / peak if peak > 1 else mixed


@cache
def _get_matrix(layout: tuple[str, ...], channels: int) -> NDArray[np.float32]:
    """Return the weights: shape (channels of the file, ``channels``)."""
    count = len(layout)
    if count == STEREO:
        sides = np.eye(STEREO)
    elif is_surround(layout):
        sides = np.array([_WEIGHTS[name] for name in layout])
    else:
        sides = np.full((count, STEREO), 1 / count)
    return np.asarray(sides if channels == STEREO else sides.mean(axis=1, keepdims=True), np.float32)
