"""Decodes the sound of a file from its beginning to its end, and counts what it gets.

What headers say about the length is not believed: it may be missing, estimated, or wrong. A file may change its rate
and its channels on the way, as files do that were joined by ``cat``.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.packet import Packet
from numpy.typing import NDArray

from shared.audio.container import OpenedAudio, open_address
from shared.audio.errors import AudioError
from shared.audio.mixing import STEREO, guess_layout
from shared.texts import text

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

MIN_RATE_HZ: Final = 1_000
MAX_RATE_HZ: Final = 768_000
MAX_CHANNELS: Final = 32
BLOCK_SAMPLES: Final = 1 << 16
"""The frames of a codec are joined to blocks of this length, since calling numpy for each would take longer than to
decode it."""
MAX_LEVEL: Final = 64.0
"""The highest level, 36 dB above full scale, that a codec may return; what is above comes from damaged data."""
_MAX_FAILURES: Final = 8
"""After so many failures to read the next packet, the file has ended."""
_MAX_PLANES: Final = 8
"""If a frame has its channels in more planes than this, PyAV does not find where they end."""
_UNKNOWN: Final = "NONE"
"""FFmpeg's name of a channel in a file that does not say which channels it has."""
_ROUNDING_S: Final = 1e-6
_FLOAT32_BYTES: Final = 4
_ENCRYPTION: Final = ("encryption_info", "encryption_init_info")
_TAGS: Final = (b"ID3", b"TAG", b"APETAGEX")
_SAMPLES: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


@dataclass(frozen=True)
class Block:
    """Samples of one rate and layout.

    Parameters
    ----------
    samples
        Shape (samples, channels), nominally -1 to 1.
    rate_hz
        The sampling rate.
    layout
        The names that FFmpeg gives the channels.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    layout: tuple[str, ...]

    @property
    def form(self) -> tuple[int, tuple[str, ...]]:
        """The rate and the layout."""
        return self.rate_hz, self.layout


class Decoding:
    """Decodes an opened file once.

    Parameters
    ----------
    audio
        The file.
    max_s
        How much may be decoded.
    """

    def __init__(self, audio: OpenedAudio, max_s: float) -> None:
        self._audio = audio
        self._max_s = max_s
        self._counts: Counter[int] = Counter()
        self._so_far_s = 0.0
        self._layouts: dict[str, tuple[str, ...]] = {}
        self._largest = 0
        self.first: tuple[int, tuple[str, ...]] | None = None
        self.changes = 0
        """How often the rate or the layout has changed."""
        self.damaged = 0
        """The number of packets that could not be decoded."""
        self.guessed: tuple[str, ...] = ()
        """The layout, if the file does not state it."""

    @property
    def decoded_s(self) -> float:
        """The length of what was decoded, in seconds."""
        return sum(count / rate_hz for rate_hz, count in self._counts.items())

    def read_blocks(self) -> Iterator[Block]:
        """Decode the file.

        Yields
        ------
        Blocks of about `BLOCK_SAMPLES`. The last one ends where the sound ends: encoders fill the last frame of a
        codec, and some containers say where the sound in it ends.

        Raises
        ------
        AudioError
            The file is too long, or has too many channels, or an odd sampling rate.
        """
        previous: Block | None = None
        for block in self._join():
            if previous is not None:
                yield previous
                self.changes += previous.form != block.form
            previous = block
        if previous is not None:
            yield self._cut(previous)

    def _join(self) -> Iterator[Block]:
        """Join the frames to blocks; the last block has at least the length of one frame if the file has."""
        joined: list[Block] = []
        count = 0
        for block in self._read_frames():
            if joined and joined[-1].form != block.form:
                yield self._concatenate(joined)
                joined, count = [], 0
            elif count >= BLOCK_SAMPLES and len(joined) > 1:
                yield self._concatenate(joined[:-1])
                joined, count = joined[-1:], len(joined[-1].samples)
            joined.append(block)
            count += len(block.samples)
        if joined:
            yield self._concatenate(joined)

    def _concatenate(self, blocks: list[Block]) -> Block:
        samples = np.concatenate([block.samples for block in blocks])
        if not self._audio.is_float:
            samples = self._leave_out_damage(samples)
        return Block(samples, *blocks[0].form)

    def _cut(self, last: Block) -> Block:
        """Cut what the encoder has added to fill the last frame, if the container says where the sound ends."""
        duration, base = self._audio.stream.duration, self._audio.stream.time_base
        if duration is None or base is None or self.changes or self._audio.format != "mov":
            return last
        excess = self._counts[last.rate_hz] - round(duration * base * last.rate_hz)
        if not 0 < excess < min(self._largest, len(last.samples)):
            return last
        self._counts[last.rate_hz] -= excess
        return Block(last.samples[:-excess], last.rate_hz, last.layout)

    def _read_frames(self) -> Iterator[Block]:
        yield from self._read_link(self._audio)
        for address in self._audio.following:
            with ExitStack() as stack:
                try:
                    link = stack.enter_context(open_address(address))
                except AudioError:
                    self.damaged += 1
                else:
                    yield from self._read_link(link)

    def _read_link(self, audio: OpenedAudio) -> Iterator[Block]:
        for packet in self._read_packets(audio):
            for frame in self._decode(audio, packet):
                if frame.samples:
                    yield self._convert(frame)

    def _read_packets(self, audio: OpenedAudio) -> Iterator["Packet[AudioStream]"]:
        """Read the packets of the stream; at the end an empty one, for which decoders return what they still have."""
        read, failed_after = 0, -1
        for _ in range(_MAX_FAILURES):
            try:
                for packet in audio.container.demux(audio.stream):
                    read += 1
                    yield packet
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError):
                # The same damage can stop the reading several times.
                self.damaged += read > failed_after
                failed_after = read
            else:
                return
        yield Packet()  # type: ignore[misc]  # of no stream

    def _decode(self, audio: OpenedAudio, packet: "Packet[AudioStream]") -> list[AudioFrame]:
        if not packet.size and packet.dts is not None:  # an empty packet inside the file, which would end the decoder
            return []
        try:
            return audio.stream.codec_context.decode(packet if packet.size else None)
        except MemoryError:
            raise
        except EOFError:  # after the end
            return []
        except (av.FFmpegError, ValueError):
            if any(packet.has_sidedata(kind) for kind in _ENCRYPTION):
                raise AudioError(text("sound-encrypted")) from None
            # Where files were joined, the tag of the second one is in the middle.
            self.damaged += not bytes(packet)[:8].startswith(_TAGS)
            return []

    def _convert(self, frame: AudioFrame) -> Block:
        layout = self._layouts.get(frame.layout.name)
        if layout is None:
            layout = tuple(channel.name for channel in frame.layout.channels)
            if set(layout) == {_UNKNOWN} and len(layout) > STEREO:
                layout = self.guessed = guess_layout(layout)
            self._layouts[frame.layout.name] = layout
        if not MIN_RATE_HZ <= frame.rate <= MAX_RATE_HZ:
            limits = {"min_hz": MIN_RATE_HZ, "max_hz": MAX_RATE_HZ}
            raise AudioError(text("sound-rate", rate_hz=frame.rate, **limits))
        if not 1 <= len(layout) <= MAX_CHANNELS:
            raise AudioError(text("sound-channels", channels=len(layout), max_channels=MAX_CHANNELS))
        samples = _read_samples(frame, len(layout))
        self._counts[frame.rate] += len(samples)
        self._so_far_s += len(samples) / frame.rate
        self._largest = max(self._largest, len(samples))
        if self._so_far_s > self._max_s + _ROUNDING_S:
            raise AudioError(text("sound-too-long", max_s=self._max_s))
        block = Block(samples, frame.rate, layout)
        self.first = self.first or block.form
        return block

    def _leave_out_damage(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Replace what no encoder has made by silence."""
        if find_peak(samples) <= MAX_LEVEL:  # false if there is a NaN
            return samples
        self.damaged += 1
        return np.where(np.abs(samples) <= MAX_LEVEL, samples, np.float32(0))


def find_peak(samples: NDArray[np.float32]) -> float:
    """Return the largest absolute value; NaN if there is one. It takes a third of the time of ``abs``."""
    return float(np.maximum(samples.max(initial=0.0), -samples.min(initial=0.0)))


def _read_samples(frame: AudioFrame, channels: int) -> NDArray[np.float32]:
    """Return the samples of a frame as float32: shape (samples, channels)."""
    if frame.format.is_planar and channels > _MAX_PLANES:
        (frame,) = AudioResampler(format=frame.format.packed.name).resample(frame)
    kind = np.dtype(_SAMPLES[frame.format.packed.name])
    if frame.format.is_planar:
        samples = np.empty((frame.samples, channels), kind)
        for channel, plane in enumerate(frame.planes):
            samples[:, channel] = np.frombuffer(memoryview(plane), kind, frame.samples)
    else:
        packed = np.frombuffer(memoryview(frame.planes[0]), kind, frame.samples * channels)
        samples = packed.reshape(-1, channels)
    if kind.itemsize > _FLOAT32_BYTES and kind.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    floats: NDArray[np.float32] = samples.astype(np.float32, copy=False)
    if kind.kind == "f":
        return floats
    if kind.kind == "u":
        floats = floats - np.float32(128)
    return floats * np.float32(2.0 ** (1 - 8 * kind.itemsize))
