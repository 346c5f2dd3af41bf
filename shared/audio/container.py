"""Opens an audio file with FFmpeg (PyAV): only this file, only known formats, and only decoders of audio."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import av
import av.logging
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from shared.audio.errors import AudioError
from shared.audio.foreign import refuse_foreign
from shared.audio.ogg import Link, find_links
from shared.texts import text

START_BYTES: Final = 4_096
# No format is on the list that names other files or addresses (playlists, concat, HLS, DASH) or that contains pictures.
_FORMATS: Final = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv", "matroska", "mov"),
    *("mp3", "mpeg", "mpegts", "ogg", "truehd", "tta", "voc", "w64", "wav", "wv"),
)
# FFmpeg looks for a stream's properties by decoding some of it, also of video; with this list it cannot.
_DECODERS: Final = re.compile(
    r"aac|aac_latm|ac3|adpcm_(ima_qt|ima_wav|ms|sbpro_[234]|swf|yamaha)|alac|amr[nw]b|ape|dca|eac3|flac|g722|g726|gsm|gsm_ms"
    r"|mlp|mp[123]float|mp2|opus|pcm_\w+|speex|truehd|tta|vorbis|wavpack|wmalossless|wmapro|wmav[12]|wmavoice"
)
_ENCRYPTED_TAGS: Final = frozenset({"aavd", "drms", "enca", "drmi", "encv"})
_ENCRYPTED_ASF: Final = re.compile(
    re.escape(bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"))  # content encryption, and its extended form
    + b"|"
    + re.escape(bytes.fromhex("14e68a292226174cb935dae07ee9289c"))
)
_ASF_HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MAX_ASF_HEADER_BYTES: Final = 2**18

av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is returned; FFmpeg would write it to standard error


@dataclass(frozen=True)
class OpenedAudio:
    """An opened file and the stream of it that is used."""

    container: InputContainer
    stream: AudioStream
    format: str
    codec: str
    following: Sequence[str] = ()
    """The addresses of the links of a chained Ogg file after the first one; each has headers of its own."""

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
        if start.startswith(_ASF_HEADER) and _ENCRYPTED_ASF.search(start + file.read(_MAX_ASF_HEADER_BYTES)):
            raise AudioError(text("sound-encrypted"))
    links = find_links(path) if start.startswith(b"OggS") else []
    # FFmpeg stops at a link of another rate, and shifts one of the same rate by up to 13 ms.
    addresses = [str(path)] if len(links) < 2 else [_address(path, link) for link in links]  # noqa: PLR2004 - a chain
    with open_address(addresses[0], start, follows_edits=follows_edits) as audio:
        yield replace(audio, following=addresses[1:])


@contextmanager
def open_address(address: str, start: bytes = b"", *, follows_edits: bool = True) -> Iterator[OpenedAudio]:
    """Open a file or a part of one by its address; see `open_audio`.

    Parameters
    ----------
    start
        The first bytes, by which an error can say more.
    """
    options = {
        "protocol_whitelist": "file,subfile",
        "format_whitelist": ",".join(_FORMATS),
        "codec_whitelist": ",".join(sorted(filter(_DECODERS.fullmatch, av.codecs_available))),
    }
    if not follows_edits:
        options["ignore_editlist"] = "1"
    try:
        container = av.open(address, "r", container_options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        has_index = start[4:8] != b"ftyp" and start[:4] != b"caff"
        raise AudioError(text("sound-unknown" if has_index else "sound-without-index")) from error
    with container:
        yield _choose_stream(container)


def _address(path: Path, link: Link) -> str:
    return f"subfile,,start,{link.start},end,{link.end},,:{path}"


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
    return context is not None and _read_tag(context) in _ENCRYPTED_TAGS


def _read_tag(context: AudioCodecContext) -> str:
    """Return the tag that a container gives a codec; empty if it is no text, as that of AAC in AVI."""
    try:
        return context.codec_tag
    except UnicodeDecodeError:
        return ""


def _name_codec(stream: AudioStream) -> str:
    return "unknown" if stream.codec_context is None else stream.codec_context.codec.canonical_name
