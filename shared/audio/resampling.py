"""Changes the sampling rate of audio."""

from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

QUALITY: Final = "VHQ"


def resample(part: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resample audio of shape (samples, channels) to exactly the rounded length.

    EnCodec counts samples to divide its input into frames. If the resampler rounded the
    length down, the last frame would move and its codes would change. To prevent this, as many
    zeros are appended as make one more output sample: soxr then always returns the last sample.
    The zeros change no value, since soxr treats everything beyond the end as zeros.
    """
    if from_hz == to_hz:
        return part
    length = round(len(part) * to_hz / from_hz)
    tail = np.zeros((-(-from_hz // to_hz), part.shape[1]), np.float32)
    resampled: NDArray[np.float32] = soxr.resample(np.concatenate([part, tail]), from_hz, to_hz, QUALITY)[:length]
    if len(resampled) != length:
        raise ValueError(f"soxr made {len(resampled)} samples at {to_hz} Hz from {len(part)} at {from_hz} Hz")
    return resampled
