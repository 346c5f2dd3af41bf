"""Audio files that tests write byte by byte."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_wav(path: Path, samples: NDArray[np.float64], rate_hz: int, *, as_floats: bool = False) -> Path:
    """Write WAV as 16-bit integers or 32-bit floats, with any number of channels; no layout of them is stated.

    Parameters
    ----------
    samples
        Shape (samples, channels).
    """
    channels, kind = samples.shape[1], "<f4" if as_floats else "<i2"
    content = (samples if as_floats else samples * 32_767).astype(kind).tobytes()
    path.write_bytes(make_wav_header(len(content), rate_hz, channels, 4 if as_floats else 2) + content)
    return path


def make_wav_header(size: int, rate_hz: int, channels: int, sample_bytes: int) -> bytes:
    """Make the head of a WAV file: integers of 2 bytes, or floats of 4."""
    frame_bytes = channels * sample_bytes
    layout = (1 if sample_bytes == 2 else 3, channels, rate_hz, rate_hz * frame_bytes % 2**32, frame_bytes)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", (size + 36) % 2**32, b"WAVE", b"fmt ", 16, *layout, 8 * sample_bytes),
        *(b"data", size % 2**32),
    )


def sing(frequency_hz: float, duration_s: float, rate_hz: int, level: float = 0.5) -> NDArray[np.float64]:
    """Make a tone: shape (samples,)."""
    phases = 2 * np.pi * frequency_hz * np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.asarray(level * np.sin(phases))
