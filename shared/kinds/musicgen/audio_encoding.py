"""Encodes audio in the formats that jobs offer."""

import io
from typing import IO, Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.io import wavfile

from shared.errors import JobFailedError
from shared.kinds.musicgen.parameters import MEDIA_TYPES, Format
from shared.texts import text

BLOCK_SAMPLES: Final = 1 << 14
"""Samples per write. libvorbis puts the samples of one write on the stack; a single write of long audio would overflow
the stack."""
MP3_RATES_HZ: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MAX_OGG_RATE_HZ: Final = 200_000
"""Above this rate, libvorbis ends the process."""
MAX_FLAC_FINE_RATE_HZ: Final = 65_535
"""The highest rate that the header of a FLAC frame can state in Hz."""
MAX_FLAC_RATE_HZ: Final = 655_350
"""The highest rate that the header of a FLAC frame can state in tens of Hz."""


# How libsndfile encodes each format. For a lossy format, a higher compression level (0 to 1) means a lower quality. For
# MP3, 0.2 is LAME's V2; for Ogg, 0.4 is Vorbis's q6. Both give about 190 kbit/s for stereo at 44.1 kHz.
_OPTIONS: Final[dict[Format, dict[str, str | float]]] = {
    Format.FLAC: {"format": "FLAC", "subtype": "PCM_24"},
    Format.OGG: {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.4},
    Format.MP3: {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.2, "bitrate_mode": "VARIABLE"},
}


def encode(audio: NDArray[np.float32], sample_rate_hz: int, audio_format: Format) -> tuple[bytes, str]:
    """Encode audio. WAV stores the audio unchanged as float32; the other formats clip the audio at ±1.

    Parameters
    ----------
    audio
        Shape (channels, samples), one or two channels, nominally -1 to 1.
    sample_rate_hz
        The sampling rate of the audio and of the file.
    audio_format
        The format of the file: float32 WAV, 24-bit FLAC, Ogg Vorbis or MP3.

    Returns
    -------
    tuple[bytes, str]
        The content and the media type of the file.

    Raises
    ------
    JobFailedError
        ``format-unfit``: the format does not support this sampling rate.
    """
    if audio_format is Format.WAV:
        content = io.BytesIO()
        wavfile.write(content, sample_rate_hz, audio.T.astype(np.float32, copy=False))
        return content.getvalue(), MEDIA_TYPES[audio_format]
    if not _has_rate(audio_format, sample_rate_hz):
        raise JobFailedError(
            "format-unfit",
            text("format-rate", rate_hz=sample_rate_hz, format=audio_format),
        )
    return _write(np.clip(audio, -1.0, 1.0), sample_rate_hz, _OPTIONS[audio_format]), MEDIA_TYPES[audio_format]


def convert(file: IO[bytes], audio_format: Format) -> tuple[bytes, str]:
    """Encode the audio of a file in another format, and return the content and the media type of the new file."""
    audio, sample_rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    return encode(audio.T, sample_rate_hz, audio_format)


def _has_rate(audio_format: Format, sample_rate_hz: int) -> bool:
    """Return whether libsndfile's encoder for a format supports a sampling rate."""
    match audio_format:
        case Format.MP3:
            return sample_rate_hz in MP3_RATES_HZ
        case Format.OGG:
            return sample_rate_hz <= MAX_OGG_RATE_HZ
        case _:
            return sample_rate_hz <= MAX_FLAC_FINE_RATE_HZ or (
                sample_rate_hz <= MAX_FLAC_RATE_HZ and sample_rate_hz % 10 == 0
            )


def _write(audio: NDArray[np.float32], sample_rate_hz: int, options: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", sample_rate_hz, len(audio), **options) as file:
        for first in range(0, audio.shape[1], BLOCK_SAMPLES):
            file.write(audio[:, first : first + BLOCK_SAMPLES].T)
    return content.getvalue()
