"""Opens an audio file with FFmpeg (PyAV): only this file, only known formats, and only decoders of audio."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from shared.audio.errors import AudioError
from shared.audio.foreign import refuse_foreign
from shared.texts import text

START_BYTES: Final = 4_096
# No format is on the list that names other files or addresses (playlists, concat, HLS, DASH) or that contains pictures.
_FORMATS: Final = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv", "matroska", "mov"),
    *("mp3", "mpeg", "mpegts", "ogg", "tta", "w64", "wav", "wv"),
)
# FFmpeg looks for a stream's properties by decoding some of it, also of video; with this list it cannot.
_DECODERS: Final = re.compile(
    r"aac|aac_latm|ac3|adpcm_(ima_qt|ima_wav|ms|swf)|alac|amr[nw]b|ape|dca|eac3|flac|gsm|gsm_ms|mlp|mp[123]float|mp2|opus"
    r"|pcm_\w+|truehd|tta|vorbis|wavpack|wmalossless|wmapro|wmav[12]"
)
_ENCRYPTED_TAGS: Final = frozenset({"drms", "enca", "drmi", "encv"})

av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is returned; FFmpeg would write it to standard error


@dataclass(frozen=True)
class OpenedAudio:
    """An opened file and the stream of it that is used."""

    container: InputContainer
    stream: AudioStream
    format: str
    codec: str

    @property
    def is_float(self) -> bool:
        """Whether the samples are stored as floating-point numbers, which may have any scale."""
        return self.codec.startswith("pcm_f")


@contextmanager
def open_audio(path: Path, *, follows_edits: bool = True) -> Iterator[OpenedAudio]:
    """Open the sound of a file.

    Parameters
    ----------
    follows_edits
        Whether parts that an edit list hides are left out, as players do.

    Raises
    ------
    AudioError
        The file has no sound that can be read.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    refuse_foreign(start)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(_FORMATS),
        "codec_whitelist": ",".join(sorted(filter(_DECODERS.fullmatch, av.codecs_available))),
    }
    if not follows_edits:
        options["ignore_editlist"] = "1"
    try:
        container = av.open(str(path), "r", container_options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        has_index = start[4:8] != b"ftyp" and start[:4] != b"caff"
        raise AudioError(text("sound-unknown" if has_index else "sound-without-index")) from error
    with container:
        yield _choose_stream(container)


def _choose_stream(container: InputContainer) -> OpenedAudio:
    """Choose the first track of sound that can be decoded, and skip everything else in the file."""
    name = container.format.name.partition(",")[0]
    tracks = container.streams.audio
    if not tracks:
        raise AudioError(text("sound-missing", format=name))
    if any(_is_encrypted(track) for track in tracks):
        raise AudioError(text("sound-encrypted"))
    stream = next((track for track in tracks if _is_decodable(track)), None)
    if stream is None:
        raise AudioError(text("sound-codec", format=name, codec=_name_codec(tracks[0])))
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.thread_count = 1
    return OpenedAudio(container, stream, name, _name_codec(stream))


def _is_decodable(stream: AudioStream) -> bool:
    context = stream.codec_context
    return context is not None and _DECODERS.fullmatch(context.codec.name) is not None


def _is_encrypted(stream: AudioStream) -> bool:
    context = stream.codec_context
    return context is not None and context.codec_tag in _ENCRYPTED_TAGS


def _name_codec(stream: AudioStream) -> str:
    return "unknown" if stream.codec_context is None else stream.codec_context.codec.canonical_name
