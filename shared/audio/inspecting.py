"""Finds out what is in an audio file, by decoding all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av

from shared.audio.container import OpenedAudio, open_audio
from shared.audio.decoding import Decoding
from shared.audio.errors import AudioError
from shared.audio.facts import AudioFacts
from shared.audio.meter import Meter, find_scale
from shared.audio.mixing import is_surround
from shared.audio.stated import read_stated_s
from shared.texts import Text, text

MIN_MISSING_S: Final = 0.1
"""How much less than stated a file may contain without a warning: tools round, and leave out the last frame."""
MIN_HIDDEN_S: Final = 0.25
"""From this length on, an edit list hides more than the padding of an encoder, which is at most 0.15 s."""


def inspect_audio(path: Path, max_s: float) -> AudioFacts:
    """Find out what is in an audio file, in memory that does not depend on its length.

    Parameters
    ----------
    max_s
        How much may be decoded.

    Raises
    ------
    AudioError
        The file has no sound that can be read.
    """
    meter = Meter()
    with open_audio(path) as audio:
        decoding = Decoding(audio, max_s)
        for block in decoding.read_blocks():
            meter.add(block)
        if decoding.first is None:
            raise AudioError(text("sound-empty", format=audio.format))
        scale = find_scale(meter.peak, is_float=audio.is_float)
        warnings = [
            *meter.find_warnings(scale),
            *find_reading_warnings(decoding),
            *_find_missing(path, audio, decoding),
        ]
        rate_hz, layout = decoding.first
    if audio.format == "mov":
        warnings += _find_hidden(path, decoding.decoded_s)
    return AudioFacts(
        duration_s=decoding.decoded_s,
        rate=rate_hz,
        channels=len(layout),
        format=audio.format,
        codec=audio.codec,
        warnings=warnings,
    )


def find_reading_warnings(decoding: Decoding) -> Iterator[Text]:
    """Say what was unusual while a file was decoded."""
    if decoding.damaged:
        yield text("sound-damaged", packets=decoding.damaged, read_s=decoding.decoded_s)
    if decoding.guessed:
        code = "sound-layout" if is_surround(decoding.guessed) else "sound-layout-unknown"
        yield text(code, channels=len(decoding.guessed), layout=" ".join(decoding.guessed))
    if decoding.changes:
        yield text("sound-changes", changes=decoding.changes)


def _find_missing(path: Path, audio: OpenedAudio, decoding: Decoding) -> Iterator[Text]:
    stated_s, tracks = read_stated_s(path, audio), audio.container.streams.audio
    if stated_s is not None and not decoding.changes and stated_s - decoding.decoded_s > MIN_MISSING_S:
        yield text("sound-incomplete", stated_s=stated_s, read_s=decoding.decoded_s)
    if len(tracks) > 1:
        yield text("sound-tracks", tracks=len(tracks), used=tracks.index(audio.stream) + 1)


def _find_hidden(path: Path, decoded_s: float) -> Iterator[Text]:
    """Compare with the length of all packets, without decoding them: an edit list can hide some."""
    with open_audio(path, follows_edits=False) as audio:
        base = audio.stream.time_base
        try:
            packets = sum(packet.duration or 0 for packet in audio.container.demux(audio.stream))
        except av.FFmpegError:  # the file is damaged, as was found before
            return
        hidden_s = 0.0 if base is None else float(packets * base) - decoded_s
    if hidden_s > MIN_HIDDEN_S:
        yield text("sound-edited", hidden_s=hidden_s)
