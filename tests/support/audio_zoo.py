"""Audio of every kind that people have, made by Debian's ffmpeg from clicks at known times and tones of known level."""

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

DURATION_S: Final = 3.0
CLICKS_S: Final = (0.4, 1.1, 2.6)
TONE_S: Final = (1.5, 2.2)
TONE_HZ: Final = 600.0
LEVELS: Final = (0.25, 0.125)
"""The amplitude of the tone in the left and in the right channel."""
_CLICK_HZ: Final = 1_000.0
_CLICK_S: Final = 0.002
Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Specimen:
    """A kind of file.

    Parameters
    ----------
    name
        The name of the file.
    arguments
        The options with which ffmpeg writes it.
    source
        The sound that it has: the rate and the number of channels.
    padding_s
        How much later than in the source the sound begins, since the file does not say what its encoder put in front.
    join_s
        How much later the second copy begins than the first one ends.
    excess_s
        How much longer than the source the sound is, since the file does not say what its encoder has added in front
        and at the end.
    level_db
        How far the levels may be from those of the source.
    change
        What is done to the file that ffmpeg has written.
    copies
        How often the source is in the file, one after the other.
    warnings
        The warnings of the inspection.
    """

    name: str
    arguments: str = ""
    source: tuple[int, int] = (44_100, 2)
    padding_s: float = 0.0
    join_s: float = 0.0
    excess_s: float = 0.0
    level_db: float = 0.1
    change: Change | None = None
    copies: int = 1
    duration_s: float = DURATION_S
    warnings: tuple[str, ...] = ()


def make_sound(rate_hz: int, channels: int) -> NDArray[np.float64]:
    """Make clicks and tones: shape (samples, channels)."""
    times_s = np.arange(round(DURATION_S * rate_hz)) / rate_hz
    clicks = sum(0.5 * make_click(times_s - at_s) for at_s in CLICKS_S)
    tone = np.sin(2 * np.pi * TONE_HZ * times_s) * ((times_s >= TONE_S[0]) & (times_s < TONE_S[1]))
    levels = [LEVELS[0]] if channels == 1 else [*LEVELS, *[0.0] * (channels - 2)]
    return np.stack([clicks * (level > 0) + level * tone for level in levels], axis=1)


def make_click(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make a short burst whose peak is at 0, and which also survives codecs of speech."""
    return np.asarray(np.exp(-((times_s / _CLICK_S) ** 2)) * np.cos(2 * np.pi * _CLICK_HZ * times_s))


def find_click(sound: NDArray[np.float32], rate_hz: int, near_s: float, reach_s: float = 0.08) -> float:
    """Return when a click is: where the sound, shape (samples,), is most like one."""
    offsets_s = np.arange(-round(3 * _CLICK_S * rate_hz), round(3 * _CLICK_S * rate_hz) + 1) / rate_hz
    template = make_click(offsets_s)
    first = max(round((near_s - reach_s) * rate_hz), 0)
    window = sound[first : round((near_s + reach_s) * rate_hz)]
    best = int(np.correlate(window, template, "valid").argmax())
    return (first + best + len(offsets_s) // 2) / rate_hz


def write_source(path: Path, rate_hz: int, channels: int) -> None:
    """Write the sound as 32-bit WAV."""
    samples = (make_sound(rate_hz, channels) * (2**31 - 1)).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(4)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def run_ffmpeg(*arguments: str) -> None:
    """Run Debian's ffmpeg."""
    ffmpeg = shutil.which("ffmpeg")
    assert ffmpeg is not None, "ffmpeg is not installed; CONTRIBUTING.md says what the tests need"
    command = [ffmpeg, "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_zoo(folder: Path, specimens: Sequence[Specimen]) -> Mapping[str, Path]:
    """Make files of these kinds, with one run of ffmpeg per source."""
    for source in sorted({specimen.source for specimen in specimens}):
        sound = folder / f"source-{source[0]}-{source[1]}.wav"
        write_source(sound, *source)
        outputs: list[str] = []
        for specimen in specimens:
            if specimen.source == source:
                outputs += [
                    *["-map", "0:a", "-map_metadata", "-1", "-fflags", "+bitexact"],
                    *specimen.arguments.split(),
                ]
                outputs += [str(folder / specimen.name)]
        video = ["-f", "lavfi", "-i", f"color=size=64x64:rate=25:duration={DURATION_S}"]
        layout = ["-channel_layout", "5.1"] if source[1] == 6 else []
        run_ffmpeg(*layout, "-i", str(sound), *video, *outputs)
        sound.unlink()
    for specimen in specimens:
        path = folder / specimen.name
        if specimen.change is not None:
            path.write_bytes(specimen.change(path.read_bytes()))
    return {specimen.name: folder / specimen.name for specimen in specimens}


def _zero_sizes(content: bytes) -> bytes:
    """Let a WAV file state a length of 0, as recorders leave it that lose their power."""
    at = content.index(b"data")
    return content[:4] + bytes(4) + content[8 : at + 4] + bytes(4) + content[at + 8 :]


def _keep_two_thirds(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def _tag(content: bytes) -> bytes:
    """Put an ID3v2 tag in front, of 2,010 bytes."""
    return b"ID3\x04\0\0\0\0\x0f\x50" + bytes(2_000) + content


def _forget_length(content: bytes) -> bytes:
    """Let FLAC state no length, as if it had been written to a pipe."""
    packed = int.from_bytes(content[18:26], "big") >> 36 << 36
    return content[:18] + packed.to_bytes(8, "big") + content[26:]


def _repeat(content: bytes) -> bytes:
    return content + content


def _swap_bytes(content: bytes) -> bytes:
    return np.frombuffer(content[: len(content) // 2 * 2], ">u2").astype("<u2").tobytes()


def _name_no_brand(content: bytes) -> bytes:
    """Let a film have no atom that says what it is, as those of old cameras."""
    return content.replace(b"ftyp", b"free", 1)


def _add_junk(content: bytes) -> bytes:
    return bytes(range(1, 200)) * 3 + content


_LOSSY_DB: Final = 0.5
_S16_SCALE: Final = 32_768
_VIDEO: Final = "-map 1:v -c:v mpeg4"
# What encoders put in front, which the container does not state.
_AAC_S: Final = 1_024 / 44_100
_LAME_S: Final = (576 + 529) / 44_100
"""The delays of LAME's encoder and of every decoder of MP3; only a Xing header states them."""
_LAYER_2_S: Final = 481 / 44_100
_AC3_S: Final = 256 / 48_000
_G722_S: Final = 22 / 16_000
_DTS_S: Final = 512 / 48_000
_WMA_S: Final = -2_048 / 44_100
"""Decoders skip the 4,096 samples that Microsoft's encoder puts in front; FFmpeg's puts half as many."""
# Where a second file begins.
_XING_S: Final = 1_332 / 44_100
"""The frame with the Xing header of the second file is decoded, as silence, and its padding is not removed."""

ZOO: Final[tuple[Specimen, ...]] = (
    Specimen("u8.wav", "-c:a pcm_u8"),
    Specimen("s16.wav", "-c:a pcm_s16le"),
    Specimen("s24.wav", "-c:a pcm_s24le"),
    Specimen("s32.wav", "-c:a pcm_s32le"),
    Specimen("f32.wav", "-c:a pcm_f32le"),
    Specimen("f64.wav", "-c:a pcm_f64le"),
    Specimen("alaw.wav", "-c:a pcm_alaw"),
    Specimen("mulaw.wav", "-c:a pcm_mulaw"),
    Specimen("ms_adpcm.wav", "-c:a adpcm_ms", excess_s=0.00617, level_db=_LOSSY_DB),
    Specimen("ima_adpcm.wav", "-c:a adpcm_ima_wav", excess_s=0.02102, level_db=_LOSSY_DB),
    Specimen("gsm.wav", "-c:a libgsm_ms", (8_000, 1), level_db=_LOSSY_DB),
    Specimen("mp3_in.wav", "-c:a libmp3lame", padding_s=_LAME_S, excess_s=0.0302, level_db=_LOSSY_DB),
    Specimen("flac.wav", "-c:a flac"),
    Specimen("g722.wav", "-c:a g722", (16_000, 1), padding_s=_G722_S, level_db=_LOSSY_DB),
    Specimen("yamaha.wav", "-c:a adpcm_yamaha", excess_s=0.01859, level_db=_LOSSY_DB),
    Specimen("plain.voc", "-c:a pcm_u8", (8_000, 1)),
    Specimen("rf64.wav", "-c:a pcm_s16le -rf64 always"),
    Specimen("w64.w64", "-c:a pcm_s16le"),
    Specimen("no_size.wav", "-c:a pcm_s16le", change=_zero_sizes),
    Specimen("half.wav", "-c:a pcm_s16le", change=_keep_two_thirds, duration_s=2.0, warnings=("sound-incomplete",)),
    Specimen("int16_in_floats.wav", f"-c:a pcm_f32le -af volume={_S16_SCALE}", warnings=("sound-integer-scale",)),
    Specimen("mono.wav", "-c:a pcm_s16le", (44_100, 1)),
    Specimen("surround.wav", "-c:a pcm_s16le", (44_100, 6)),
    Specimen("slow.wav", "-c:a pcm_s16le", (8_000, 1)),
    Specimen("fast.wav", "-c:a pcm_s24le", (96_000, 2)),
    Specimen("fastest.flac", "-c:a flac", (192_000, 2)),
    Specimen("plain.aiff", "-c:a pcm_s16be"),
    Specimen("deep.aiff", "-c:a pcm_s24be"),
    Specimen("little.aifc", "-f aiff -c:a pcm_s16le"),
    Specimen("float.aifc", "-f aiff -c:a pcm_f32be"),
    Specimen("pcm.caf", "-c:a pcm_s16le"),
    Specimen("alac.caf", "-c:a alac"),
    Specimen("plain.au", "-c:a pcm_s16be"),
    Specimen("mulaw.au", "-c:a pcm_mulaw"),
    Specimen("plain.flac", "-c:a flac"),
    Specimen("deep.flac", "-c:a flac -sample_fmt s32"),
    Specimen("surround.flac", "-c:a flac", (44_100, 6)),
    Specimen("piped.flac", "-c:a flac", change=_forget_length),
    Specimen("tagged.flac", "-c:a flac", change=_tag),
    Specimen("flac.oga", "-f ogg -c:a flac"),
    Specimen("flac.mkv", "-c:a flac"),
    Specimen("flac.mp4", "-c:a flac -strict -2"),
    Specimen("alac.m4a", "-c:a alac"),
    Specimen("aac.m4a", "-c:a aac", level_db=_LOSSY_DB),
    Specimen("faststart.m4a", "-c:a aac -movflags faststart", level_db=_LOSSY_DB),
    Specimen(
        "fragmented.m4a",
        "-f mp4 -c:a aac -movflags frag_keyframe+empty_moov",
        padding_s=_AAC_S,
        excess_s=0.02322,
        level_db=_LOSSY_DB,
    ),
    Specimen("mono.m4a", "-c:a aac", (48_000, 1), level_db=_LOSSY_DB),
    Specimen("surround.m4a", "-c:a aac", (44_100, 6), level_db=_LOSSY_DB),
    Specimen("tracks.m4a", "-c:a aac -map 0:a", level_db=_LOSSY_DB, warnings=("sound-tracks",)),
    Specimen("adts.aac", "-c:a aac", padding_s=_AAC_S, excess_s=0.04181, level_db=_LOSSY_DB),
    Specimen("aac.mov", "-c:a aac", level_db=_LOSSY_DB),
    Specimen("pcm.mov", "-c:a pcm_s16le"),
    Specimen("old.mov", "-f mov -c:a pcm_s16le", change=_name_no_brand),
    Specimen("ima.mov", "-c:a adpcm_ima_qt", excess_s=0.00118, level_db=_LOSSY_DB),
    Specimen("aac.3gp", "-c:a aac", level_db=_LOSSY_DB),
    Specimen("aac.mka", "-f matroska -c:a aac", padding_s=_AAC_S, excess_s=0.04181, level_db=_LOSSY_DB),
    Specimen("aac.ts", "-f mpegts -c:a aac", padding_s=_AAC_S, excess_s=0.04181, level_db=_LOSSY_DB),
    Specimen("film.mp4", f"{_VIDEO} -c:a aac", level_db=_LOSSY_DB),
    Specimen("film.mkv", f"{_VIDEO} -c:a libvorbis", excess_s=0.00553, level_db=_LOSSY_DB),
    Specimen("film.avi", f"{_VIDEO} -c:a libmp3lame", padding_s=_LAME_S, excess_s=0.0302, level_db=_LOSSY_DB),
    Specimen("aac.avi", "-c:a aac", padding_s=_AAC_S, excess_s=0.04181, level_db=_LOSSY_DB),
    Specimen("aac.asf", "-c:a aac", padding_s=_AAC_S, excess_s=0.04181, level_db=_LOSSY_DB),
    Specimen("film.flv", "-map 1:v -c:v flv -c:a aac", padding_s=_AAC_S, excess_s=0.04181, level_db=_LOSSY_DB),
    Specimen(
        "film.mpg", "-map 1:v -c:v mpeg1video -c:a mp2", padding_s=_LAYER_2_S, excess_s=0.00408, level_db=_LOSSY_DB
    ),
    Specimen("constant.mp3", "-c:a libmp3lame -b:a 128k", level_db=_LOSSY_DB),
    Specimen("variable.mp3", "-c:a libmp3lame -q:a 4", level_db=_LOSSY_DB),
    Specimen(
        "no_xing.mp3",
        "-c:a libmp3lame -q:a 4 -write_xing 0",
        padding_s=_LAME_S,
        excess_s=0.0302,
        level_db=_LOSSY_DB,
    ),
    Specimen("cover.mp3", "-map 1:v -c:v png -frames:v 1 -c:a libmp3lame", level_db=_LOSSY_DB),
    Specimen("mono.mp3", "-c:a libmp3lame", (44_100, 1), level_db=_LOSSY_DB),
    Specimen("low.mp3", "-c:a libmp3lame -b:a 32k", (22_050, 1), level_db=_LOSSY_DB),
    Specimen("lowest.mp3", "-c:a libmp3lame -b:a 16k", (8_000, 1), level_db=_LOSSY_DB),
    Specimen("junk.mp3", "-c:a libmp3lame", change=_add_junk, padding_s=_LAME_S, excess_s=0.0302, level_db=_LOSSY_DB),
    Specimen(
        "joined.mp3",
        "-c:a libmp3lame",
        change=_repeat,
        copies=2,
        join_s=_XING_S,
        excess_s=0.03535,
        level_db=_LOSSY_DB,
    ),
    Specimen("layer2.mp2", "-c:a mp2", padding_s=_LAYER_2_S, excess_s=0.00408, level_db=_LOSSY_DB),
    Specimen("vorbis.ogg", "-c:a libvorbis", level_db=_LOSSY_DB),
    Specimen("chained.ogg", "-c:a libvorbis", change=_repeat, copies=2, level_db=_LOSSY_DB),
    Specimen("opus.opus", "-c:a libopus", (48_000, 2), level_db=_LOSSY_DB),
    Specimen("chained.opus", "-c:a libopus", (48_000, 2), change=_repeat, copies=2, level_db=_LOSSY_DB),
    Specimen("opus.webm", "-c:a libopus", (48_000, 2), level_db=_LOSSY_DB),
    Specimen("vorbis.webm", "-c:a libvorbis", excess_s=0.00553, level_db=_LOSSY_DB),
    Specimen("live.webm", "-c:a libopus -live 1", (48_000, 1), level_db=_LOSSY_DB),
    Specimen("v1.wma", "-c:a wmav1", padding_s=_WMA_S, excess_s=-0.02785, level_db=_LOSSY_DB),
    Specimen("v2.wma", "-c:a wmav2", padding_s=_WMA_S, excess_s=-0.02785, level_db=_LOSSY_DB),
    Specimen("dolby.ac3", "-c:a ac3", (48_000, 2), padding_s=_AC3_S, excess_s=0.008, level_db=_LOSSY_DB),
    Specimen(
        "swapped.ac3",
        "-c:a ac3",
        (48_000, 2),
        padding_s=_AC3_S,
        excess_s=0.008,
        change=_swap_bytes,
        level_db=_LOSSY_DB,
    ),
    Specimen("dolby.eac3", "-c:a eac3", (48_000, 2), padding_s=_AC3_S, excess_s=0.008, level_db=_LOSSY_DB),
    Specimen("surround.ac3", "-c:a ac3 -b:a 448k", (48_000, 6), padding_s=_AC3_S, excess_s=0.008, level_db=_LOSSY_DB),
    Specimen("theatre.dts", "-c:a dca -strict -2", (48_000, 2), padding_s=_DTS_S, excess_s=0.008, level_db=_LOSSY_DB),
    Specimen("lossless.thd", "-f truehd -c:a truehd -strict -2", (48_000, 2)),
    Specimen("lossless.tta", "-c:a tta"),
    Specimen("lossless.wv", "-c:a wavpack"),
)


def make_silence(duration_s: float) -> bytes:
    """Make an m4a file of silence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "silence.m4a"
        run_ffmpeg("-f", "lavfi", "-i", f"anullsrc=r=44100:cl=stereo:d={duration_s}", "-c:a", "aac", str(path))
        return path.read_bytes()
