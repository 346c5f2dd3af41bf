"""Encodes audio in the formats that jobs offer, with tags."""

import io
from collections.abc import Mapping
from typing import IO, Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from shared.audio.id3 import build_id3
from shared.audio.ogg import set_stream_number
from shared.audio.provenance import Provenance
from shared.audio.tags import NO_TAGS, Tags, read_tags
from shared.audio.wav import WavForm, build_wav
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
FULL_SCALE_16_BIT: Final = 2**15
CLIPPING_FORMATS: Final = frozenset(Format) - {Format.WAV}
"""The formats whose files cut what is beyond full scale."""

# How libsndfile encodes each format. FLAC has 24 bits: their rounding error, below -140 dBFS, cannot be heard, so they
# need no dither. For a lossy format, a higher compression level (0 to 1) means a lower quality. For MP3, 0.2 is LAME's
# V2; for Ogg, 0.4 is Vorbis's q6. Both give about 190 kbit/s for stereo at 44.1 kHz.
_OPTIONS: Final[dict[Format, dict[str, str | float]]] = {
    Format.FLAC: {"format": "FLAC", "subtype": "PCM_24"},
    Format.OGG: {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.4},
    Format.MP3: {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.2, "bitrate_mode": "VARIABLE"},
}


def encode(
    audio: NDArray[np.float32],
    sample_rate_hz: int,
    audio_format: Format,
    tags: Tags = NO_TAGS,
    *,
    dither_seed: int = 0,
) -> tuple[bytes, str]:
    """Encode audio. WAV stores the audio unchanged as float32; the other formats clip the audio at ±1.

    The same arguments give the same bytes.

    Parameters
    ----------
    audio
        Shape (channels, samples), one or two channels, nominally -1 to 1.
    sample_rate_hz
        The sampling rate of the audio and of the file.
    audio_format
        The format of the file: float32 WAV, 16-bit WAV, 24-bit FLAC, Ogg Vorbis or MP3.
    tags
        What the file says about itself. The first NUL character ends a text.
    dither_seed
        The seed of the dither, which only 16-bit files have.

    Returns
    -------
    tuple[bytes, str]
        The content and the media type of the file.

    Raises
    ------
    JobFailedError
        ``format-unfit``: the format does not support this sampling rate.
    """
    check_rate(audio_format, sample_rate_hz)
    return _build(audio, sample_rate_hz, audio_format, tags, dither_seed), MEDIA_TYPES[audio_format]


def decode(content: bytes | IO[bytes]) -> NDArray[np.float32]:
    """Decode an encoded file: shape (channels, samples)."""
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    audio: NDArray[np.float32] = soundfile.read(file, dtype="float32", always_2d=True)[0]
    return audio.T


def convert(file: IO[bytes], audio_format: Format) -> tuple[bytes, str]:
    """Encode the audio of a file in another format, with the same tags.

    Returns
    -------
    tuple[bytes, str]
        The content and the media type of the new file.
    """
    tags = read_tags(file)
    file.seek(0)
    audio, sample_rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    provenance = Provenance.parse(tags.comment)
    return encode(audio.T, sample_rate_hz, audio_format, tags, dither_seed=provenance.seed if provenance else 0)


def check_rate(audio_format: Format, sample_rate_hz: int) -> None:
    """Refuse a sampling rate that a format does not support.

    Raises
    ------
    JobFailedError
        ``format-unfit``: the format does not support this sampling rate.
    """
    if not _has_rate(audio_format, sample_rate_hz):
        raise JobFailedError("format-unfit", text("format-rate", rate_hz=sample_rate_hz, format=audio_format))


def round_to_16_bits(audio: NDArray[np.float32], seed: int) -> NDArray[np.int16]:
    """Round audio to 16-bit integers, with dither, and clip it.

    Dither makes the rounding error independent of the audio: a fade ends in even noise instead of distortion. Its
    values have a triangular distribution (TPDF) between -1 and 1 steps.

    Parameters
    ----------
    audio
        Shape (channels, samples), nominally -1 to 1.
    seed
        The seed of the dither.
    """
    rng = np.random.default_rng(seed)
    rounded = np.empty(audio.shape, np.int16)
    for first in range(0, audio.shape[1], BLOCK_SAMPLES):
        block = audio[:, first : first + BLOCK_SAMPLES]
        dither = rng.random(block.shape) - rng.random(block.shape)
        steps = np.rint(block * np.float64(FULL_SCALE_16_BIT) + dither)
        rounded[:, first : first + BLOCK_SAMPLES] = np.clip(steps, -FULL_SCALE_16_BIT, FULL_SCALE_16_BIT - 1)
    return rounded


def _build(
    audio: NDArray[np.float32], sample_rate_hz: int, audio_format: Format, tags: Tags, dither_seed: int
) -> bytes:
    texts = {"INAM": tags.title, "ICMT": tags.comment, "ISFT": tags.software}
    info = {name: value for name, value in texts.items() if value}
    match audio_format:
        case Format.WAV:
            return _write_wav(audio.astype(np.float32, copy=False), sample_rate_hz, info)
        case Format.WAV16:
            return _write_wav(round_to_16_bits(audio, dither_seed), sample_rate_hz, info)
    options = _OPTIONS[audio_format]
    if audio_format is Format.MP3:
        return build_id3(tags) + _write(audio, sample_rate_hz, options, NO_TAGS)
    content = _write(audio, sample_rate_hz, options, tags)
    return set_stream_number(content, 0) if audio_format is Format.OGG else content


def _has_rate(audio_format: Format, sample_rate_hz: int) -> bool:
    """Return whether libsndfile's encoder for a format supports a sampling rate."""
    match audio_format:
        case Format.WAV | Format.WAV16:
            return True
        case Format.MP3:
            return sample_rate_hz in MP3_RATES_HZ
        case Format.OGG:
            return sample_rate_hz <= MAX_OGG_RATE_HZ
        case _:
            return sample_rate_hz <= MAX_FLAC_FINE_RATE_HZ or (
                sample_rate_hz <= MAX_FLAC_RATE_HZ and sample_rate_hz % 10 == 0
            )


def _write_wav(samples: NDArray[np.float32] | NDArray[np.int16], sample_rate_hz: int, info: Mapping[str, str]) -> bytes:
    form = WavForm(len(samples), sample_rate_hz, samples.dtype.itemsize, is_float=samples.dtype.kind == "f")
    return build_wav(form, samples.T.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes(), info)


def _write(audio: NDArray[np.float32], sample_rate_hz: int, options: dict[str, Any], tags: Tags) -> bytes:
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", sample_rate_hz, len(audio), **options) as file:
        for name, value in (("title", tags.title), ("comment", tags.comment), ("software", tags.software)):
            if value:
                setattr(file, name, value.partition("\0")[0])
        for first in range(0, audio.shape[1], BLOCK_SAMPLES):
            file.write(np.clip(audio[:, first : first + BLOCK_SAMPLES], -1.0, 1.0).T)
    return content.getvalue()
