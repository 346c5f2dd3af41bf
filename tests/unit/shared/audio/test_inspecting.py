"""What is unusual about a file is said, and a file that cannot be read gets a sentence, whatever it is."""

import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shared.audio.errors import AudioError
from shared.audio.facts import AudioFacts
from shared.audio.inspecting import inspect_audio
from shared.audio.part import WantedPart, decode_part
from shared.texts import render
from tests.support.audio_files import make_wav_header, sing, write_wav
from tests.support.audio_zoo import run_ffmpeg

pytestmark = pytest.mark.xdist_group("audio zoo")

MAX_S: Final = 60.0
RATE_HZ: Final = 8_000
TONE: Final = sing(440, 1.0, RATE_HZ)[:, None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def list_warnings(facts: AudioFacts) -> list[str]:
    return [warning.code for warning in facts.warnings]


def inspect(path: Path, content: bytes | None = None) -> AudioFacts:
    if content is not None:
        path.write_bytes(content)
    return inspect_audio(path, MAX_S)


def refuse(path: Path, content: bytes | None = None) -> str:
    """Inspect a file that cannot be read, and return the code; the worker says the same."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        inspect_audio(path, MAX_S)
    with pytest.raises(AudioError) as again:
        decode_part(path, WantedPart(0.0, 0.5, 30.0, 32_000, 1), MAX_S)
    assert again.value.text == caught.value.text
    sentence = render(caught.value.text)
    assert sentence.endswith(".")
    assert str(path) not in sentence
    return caught.value.text.code


def find_warnings(path: Path, samples: NDArray[np.float64], **options: Any) -> list[str]:
    """Return the warnings about a WAV file; those about a part of it, which the worker gives, are the same."""
    write_wav(path, samples, RATE_HZ, **options)
    found = list_warnings(inspect_audio(path, MAX_S))
    part = decode_part(path, WantedPart(0.1, 0.9, 30.0, 32_000, 1), MAX_S)
    assert [warning.code for warning in part.warnings] == found
    return found


def test_tone_has_no_warning(path: Path) -> None:
    assert find_warnings(path, TONE) == []
    assert find_warnings(path, np.hstack([TONE, 0.3 * TONE])) == []


@pytest.mark.parametrize(("level_dbfs", "codes"), [(-59.5, []), (-60.5, ["sound-silent"])])
def test_silence_is_said(path: Path, level_dbfs: float, codes: list[str]) -> None:
    assert find_warnings(path, 2 * TONE * 10 ** (level_dbfs / 20), as_floats=True) == codes
    assert find_warnings(path, 0 * TONE) == ["sound-silent"]


@pytest.mark.parametrize(
    ("right", "codes"), [(-1.0, ["sound-cancels"]), (-0.9, ["sound-cancels"]), (-0.5, []), (1.0, []), (0.0, [])]
)
def test_channels_that_cancel_each_other_are_said(path: Path, right: float, codes: list[str]) -> None:
    assert find_warnings(path, np.hstack([TONE, right * TONE])) == codes


@pytest.mark.parametrize(
    ("peak", "scale"), [(64, 1), (65, 2**15), (32_768, 2**15), (32_769, 2**23), (2**23, 2**23), (2**31, 2**31)]
)
def test_floats_at_the_scale_of_integers_are_divided_and_that_is_said(path: Path, peak: float, scale: float) -> None:
    samples = 2 * TONE / np.abs(2 * TONE).max() * peak
    assert find_warnings(path, samples, as_floats=True) == ([] if scale == 1 else ["sound-integer-scale"])
    part = decode_part(path, WantedPart(0.0, 1.0, 30.0, RATE_HZ, 1), MAX_S)
    np.testing.assert_allclose(part.samples, samples / scale, rtol=1e-5, atol=1e-7)


def test_scale_of_a_quiet_part_is_that_of_the_file(path: Path) -> None:
    samples = np.concatenate([TONE * 20, TONE * 30_000])
    write_wav(path, samples, RATE_HZ, as_floats=True)
    part = decode_part(path, WantedPart(0.0, 0.5, 30.0, RATE_HZ, 1), MAX_S)
    np.testing.assert_allclose(part.samples, samples[: RATE_HZ // 2] / 32_768, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("offset", "codes"), [(0.03, []), (0.08, ["sound-offset"]), (-0.08, ["sound-offset"])])
def test_offset_is_said(path: Path, offset: float, codes: list[str]) -> None:
    assert find_warnings(path, 0.5 * TONE + offset) == codes
    assert find_warnings(path, np.hstack([0.5 * TONE, 0.5 * TONE + offset])) == codes


@pytest.mark.parametrize(
    ("wrong", "code"), [(np.nan, "sound-not-finite"), (np.inf, "sound-not-finite"), (1e30, "sound-too-loud")]
)
def test_samples_that_are_no_sound_are_refused(path: Path, wrong: float, code: str) -> None:
    samples = TONE.copy()
    samples[100] = wrong
    write_wav(path, samples, RATE_HZ, as_floats=True)
    assert refuse(path) == code


@pytest.mark.parametrize(
    ("name", "read_s"),
    [
        ("s16.wav", 2.0),
        ("plain.aiff", 2.0),
        ("plain.au", 2.0),
        ("plain.flac", 1.88),
        ("faststart.m4a", 1.9),
        ("constant.mp3", 1.98),
        ("opus.webm", 2.35),
        ("flac.mkv", 1.88),
        ("rf64.wav", 2.0),
        ("lossless.wv", 2.0),
    ],
)
def test_file_that_is_cut_off_says_how_much_could_be_read(
    zoo: Mapping[str, Path], path: Path, name: str, read_s: float
) -> None:
    content = zoo[name].read_bytes()
    facts = inspect(path, content[: len(content) * 2 // 3])
    assert facts.duration_s == pytest.approx(read_s, abs=0.03)
    (warning,) = (warning for warning in facts.warnings if warning.code == "sound-incomplete")
    assert warning.values["stated_s"] == pytest.approx(3.0, abs=0.03)
    assert warning.values["read_s"] == facts.duration_s


@pytest.mark.parametrize("name", ["s16.wav", "ima_adpcm.wav", "ms_adpcm.wav"])
def test_wav_with_a_long_chunk_in_front_that_is_cut_off_says_it(zoo: Mapping[str, Path], path: Path, name: str) -> None:
    content = zoo[name].read_bytes()
    at = content.index(b"data")
    content = content[:at] + b"iXML" + struct.pack("<I", 5_001) + bytes(5_002) + content[at:]
    assert list_warnings(inspect(path, content)) == []
    facts = inspect(path, content[: len(content) * 2 // 3])
    (warning,) = (warning for warning in facts.warnings if warning.code == "sound-incomplete")
    assert warning.values["stated_s"] == pytest.approx(3.0, abs=0.03)


def test_big_endian_wav_that_is_cut_off_says_it(path: Path) -> None:
    soundfile.write(path, TONE, RATE_HZ, format="WAV", subtype="PCM_16", endian="BIG")
    content = path.read_bytes()
    assert content.startswith(b"RIFX")
    assert list_warnings(inspect(path)) == []
    assert list_warnings(inspect(path, content[: len(content) // 2])) == ["sound-incomplete"]


def test_average_of_bytes_per_second_is_not_believed(path: Path) -> None:
    write_wav(path, TONE, RATE_HZ)
    content = path.read_bytes()
    assert list_warnings(inspect(path, content[:28] + struct.pack("<I", 1) + content[32:])) == []


@pytest.mark.parametrize("codec", ["ac3", "libmp3lame", "aac", "libopus", "pcm_s16le"])
def test_length_of_matroska_without_a_duration_is_no_stated_length(
    tmp_path: Path, zoo: Mapping[str, Path], codec: str
) -> None:
    path = tmp_path / "piped.mka"
    source = zoo["fast.wav"]
    run_ffmpeg("-i", str(source), "-ar", "48000", "-c:a", codec, "-f", "matroska", "-seekable", "0", f"file:{path}")
    assert list_warnings(inspect(path)) == []


@pytest.mark.parametrize("name", ["aac.m4a", "pcm.mov", "alac.caf"])
def test_file_that_is_cut_off_before_its_index_is_refused(zoo: Mapping[str, Path], path: Path, name: str) -> None:
    content = zoo[name].read_bytes()
    assert refuse(path, content[: len(content) * 2 // 3]) == "sound-without-index"


@pytest.mark.parametrize("name", ["plain.flac", "constant.mp3", "opus.opus", "adts.aac", "dolby.ac3"])
def test_file_that_is_damaged_in_the_middle_is_read_around_the_damage(
    zoo: Mapping[str, Path], path: Path, name: str
) -> None:
    content = bytearray(zoo[name].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1_000] = np.random.default_rng(1).bytes(1_000)
    facts = inspect(path, bytes(content))
    assert facts.duration_s > 1.4
    assert set(list_warnings(facts)) & {"sound-damaged", "sound-incomplete"}


def test_files_of_different_rates_that_were_joined_are_read_to_the_end(
    zoo: Mapping[str, Path], path: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.mp3"
    run_ffmpeg("-f", "lavfi", "-i", "sine=440:r=22050:d=1", "-c:a", "libmp3lame", str(second))
    facts = inspect(path, zoo["constant.mp3"].read_bytes() + second.read_bytes())
    assert (facts.rate, facts.channels) == (44_100, 2)
    assert facts.duration_s == pytest.approx(4.0, abs=0.1)
    assert list_warnings(facts) == ["sound-changes"]
    part = decode_part(path, WantedPart(2.5, None, 30.0, 32_000, 1), MAX_S)
    assert len(part.samples) == pytest.approx((facts.duration_s - 2.5) * 32_000, abs=2)
    tone = part.samples[24_000:40_000, 0]
    peak_hz = np.abs(np.fft.rfft(tone * np.hanning(len(tone)))).argmax() * 32_000 / len(tone)
    assert peak_hz == pytest.approx(440, abs=3)


def hide_second(content: bytes, duration_s: float) -> bytes:
    """Change the edit list of an m4a file so that it begins a second later."""
    at = content.index(b"elst") + 12
    duration, media_time = struct.unpack_from(">II", content, at)
    changed = struct.pack(">II", round(duration * duration_s / 3), media_time + 44_100)
    return content[:at] + changed + content[at + 8 :]


def test_what_an_edit_list_hides_is_not_used_and_that_is_said(zoo: Mapping[str, Path], path: Path) -> None:
    facts = inspect(path, hide_second(zoo["aac.m4a"].read_bytes(), 2.0))
    assert facts.duration_s == pytest.approx(2.0, abs=0.001)
    (warning,) = facts.warnings
    assert warning.code == "sound-edited"
    assert warning.values["hidden_s"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("first", "second", "changes"),
    [
        ("aresample=44100 -c:a libvorbis", "aresample=22050 -c:a libvorbis", 1),
        ("pan=mono|c0=c0 -c:a libvorbis", "pan=stereo|c0=c0|c1=c0 -c:a libvorbis", 1),
        ("pan=mono|c0=c0 -c:a libopus", "pan=stereo|c0=c0|c1=c0 -c:a libopus", 1),
        ("anull -c:a libvorbis", "anull -c:a libopus", 0),
        ("anull -c:a flac", "aresample=44100 -c:a libvorbis", 1),
        ("anull -c:a libopus", "anull -c:a flac", 0),
    ],
)
def test_chained_ogg_whose_form_changes_is_read_to_its_end(path: Path, first: str, second: str, changes: int) -> None:
    links = []
    for form in (first, second):
        filters, _, codec = form.partition(" ")
        run_ffmpeg("-f", "lavfi", "-i", f"sine=440:r=48000:d=3,{filters}", *codec.split(), "-f", "ogg", str(path))
        links.append(path.read_bytes())
    facts = inspect(path, b"".join(links))
    assert facts.duration_s == pytest.approx(6.0, abs=0.001)
    assert list_warnings(facts) == ["sound-changes"] * changes
    part = decode_part(path, WantedPart(2.5, 3.5, 30.0, 32_000, 1), MAX_S)
    assert len(part.samples) == 32_000
    assert np.abs(part.samples[15_000:17_000]).max() > 0.05


def test_link_that_cannot_be_read_is_left_out_and_said(zoo: Mapping[str, Path], path: Path) -> None:
    content = zoo["vorbis.ogg"].read_bytes()
    damaged = content[:28] + bytes(30) + content[58:]
    facts = inspect(path, content + damaged + content)
    assert facts.duration_s == pytest.approx(6.0, abs=0.001)
    assert list_warnings(facts) == ["sound-damaged"]


@pytest.mark.parametrize("guid", ["fbb3112223bdd211b4b700a0c955fc6e", "14e68a292226174cb935dae07ee9289c"])
def test_encrypted_wma_is_refused(zoo: Mapping[str, Path], path: Path, guid: str) -> None:
    content = zoo["v2.wma"].read_bytes()
    header_bytes, objects = struct.unpack_from("<QI", content, 16)
    added = bytes.fromhex(guid) + struct.pack("<Q", 24 + 5_000) + bytes(5_000)
    header = content[:16] + struct.pack("<QI", header_bytes + len(added), objects + 1) + content[28:30]
    assert refuse(path, header + bytes.fromhex(guid) + added[16:] + content[30:]) == "sound-encrypted"
    later = content[:16] + struct.pack("<QI", header_bytes + len(added), objects + 1) + content[28:header_bytes]
    assert refuse(path, later + added + content[header_bytes:]) == "sound-encrypted"


@pytest.mark.parametrize("name", ["six.wav", "six.w64", "six.aiff", "six.caf"])
def test_channels_without_names_are_taken_for_surround_sound_and_that_is_said(tmp_path: Path, name: str) -> None:
    front = np.zeros((RATE_HZ, 6))
    front[:, :2] = TONE
    soundfile.write(tmp_path / name, front, RATE_HZ, subtype="PCM_16")
    facts = inspect(tmp_path / name)
    assert list_warnings(facts) == ["sound-layout"]
    assert "FL FR FC LFE BL BR" in render(facts.warnings[0])
    part = decode_part(tmp_path / name, WantedPart(0.0, 1.0, 30.0, RATE_HZ, 1), MAX_S)
    np.testing.assert_allclose(part.samples, TONE, atol=1e-4)


def test_mean_of_channels_without_names_that_cancel_each_other_is_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "nine.wav"
    soundfile.write(path, np.hstack([TONE, -TONE, TONE, -TONE, 0 * TONE, TONE, -TONE, TONE, -TONE]), RATE_HZ)
    assert list_warnings(inspect(path)) == ["sound-cancels", "sound-layout-unknown"]


@pytest.mark.parametrize("tag", [b"drms", b"enca", b"aavd"])
def test_sample_entry_of_encrypted_sound_is_refused(zoo: Mapping[str, Path], path: Path, tag: bytes) -> None:
    assert refuse(path, zoo["aac.m4a"].read_bytes().replace(b"mp4a", tag, 1)) == "sound-encrypted"


def test_encrypted_sound_is_refused(path: Path, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.mp4"
    scheme = ["-c:a", "aac", "-encryption_scheme", "cenc-aes-ctr"]
    keys = ["-encryption_key", "76" * 16, "-encryption_kid", "a7" * 16]
    run_ffmpeg("-f", "lavfi", "-i", "sine=440:d=2", *scheme, *keys, str(encrypted))
    assert refuse(path, encrypted.read_bytes()) == "sound-encrypted"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"#EXTM3U\n#EXTINF:9\nhttp://127.0.0.1:9/a.mp3\n", "sound-playlist"),
        (b"\xef\xbb\xbf#EXTM3U\nfile:///etc/hostname\n", "sound-playlist"),
        (b"[playlist]\nFile1=/etc/hostname\n", "sound-playlist"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "sound-playlist"),
        (b"<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>", "sound-playlist"),
        (b"<asx version='3.0'/>", "sound-playlist"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "sound-foreign"),
        (b"<?xml version='1.0'?><!-- a --><svg/>", "sound-foreign"),
        (b"<!DOCTYPE html><title>Sign in</title>", "sound-foreign"),
        (b"MThd\0\0\0\x06\0\1", "sound-foreign"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "sound-foreign"),
        (b"%PDF-1.7", "sound-foreign"),
        (b"file '/etc/hostname'\n", "sound-unknown"),
        (b"not a sound" * 50, "sound-unknown"),
        (b"fLaC" * 50, "sound-unknown"),
        (b"ID3\x04" + bytes(60), "sound-unknown"),
        (b"", "sound-unknown"),
    ],
)
def test_file_that_is_not_audio_is_refused(path: Path, content: bytes, code: str) -> None:
    assert refuse(path, content) == code


def test_film_without_sound_is_refused(path: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=size=64x64:rate=5:duration=1", "-c:v", "mpeg4", str(film))
    assert refuse(path, film.read_bytes()) == "sound-missing"


def test_sound_without_a_decoder_is_refused(path: Path, zoo: Mapping[str, Path]) -> None:
    assert refuse(path, zoo["aac.mka"].read_bytes().replace(b"A_AAC", b"A_XXX", 1)) == "sound-codec"


@pytest.mark.parametrize(
    ("rate_hz", "channels", "code"),
    [
        (44_100, 255, "sound-channels"),
        (44_100, 33, "sound-channels"),
        (1, 1, "sound-rate"),
        (999, 1, "sound-rate"),
        (2_000_000_000, 1, "sound-rate"),
        (44_100, 0, "sound-empty"),
    ],
)
def test_implausible_form_is_refused(path: Path, rate_hz: int, channels: int, code: str) -> None:
    size = 1_000 * channels * 2
    assert refuse(path, make_wav_header(size, rate_hz, channels, 2) + bytes(size)) == code


def test_32_channels_are_read(path: Path) -> None:
    facts = inspect(write_wav(path, np.tile(TONE, 32), RATE_HZ))
    assert (facts.channels, facts.duration_s) == (32, 1.0)


def test_more_than_8_channels_of_a_lossy_codec_are_read(path: Path, tmp_path: Path) -> None:
    source = write_wav(tmp_path / "source.wav", np.tile(sing(440, 1.0, 48_000)[:, None], 12), 48_000)
    many = tmp_path / "many.opus"
    run_ffmpeg("-i", str(source), *["-c:a", "libopus", "-mapping_family", "255"], str(many))
    facts = inspect(path, many.read_bytes())
    assert (facts.channels, facts.duration_s) == (12, 1.0)
    assert list_warnings(facts) == ["sound-layout-unknown"]


def test_amr_which_old_telephones_make_is_read(path: Path) -> None:
    facts = inspect(path, b"#!AMR\n" + (b"\x3c" + bytes(range(1, 32))) * 50)  # frames of 20 ms
    assert (facts.rate, facts.channels, facts.duration_s, facts.codec) == (8_000, 1, 1.0, "amr_nb")


def test_file_without_samples_is_refused(path: Path) -> None:
    assert refuse(write_wav(path, np.zeros((0, 1)), RATE_HZ)) == "sound-empty"


@pytest.mark.parametrize("frames", [2**31, 2**40, 2**62])
def test_length_that_cannot_be_is_not_believed(zoo: Mapping[str, Path], path: Path, frames: int) -> None:
    content = zoo["w64.w64"].read_bytes()
    at = content.index(b"data") + 16
    facts = inspect(path, content[:at] + struct.pack("<q", frames) + content[at + 8 :])
    assert facts.duration_s == pytest.approx(3.0, abs=0.001)


def test_length_beyond_all_numbers_is_refused(zoo: Mapping[str, Path], path: Path) -> None:
    content = zoo["rf64.wav"].read_bytes()
    at = content.index(b"ds64") + 8
    assert refuse(path, content[:at] + struct.pack("<QQQ", *[2**63] * 3) + content[at + 24 :]) == "sound-unknown"


def test_more_sound_than_is_allowed_is_refused(path: Path) -> None:
    write_wav(path, np.zeros((RATE_HZ * 3, 1)), RATE_HZ)
    assert inspect_audio(path, 3.0).duration_s == 3.0
    with pytest.raises(AudioError) as caught:
        inspect_audio(path, 2.99)
    assert caught.value.text.code == "sound-too-long"


def test_film_of_two_hours_is_refused_in_little_memory(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    sources = ["-f", "lavfi", "-i", "color=size=16x16:rate=1:duration=7200"]
    sources += ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono:d=7200"]
    run_ffmpeg(*sources, *["-c:v", "mpeg4", "-c:a", "pcm_mulaw"], str(film))
    tracemalloc.start()
    try:
        with pytest.raises(AudioError) as caught:
            inspect_audio(film, 3_600.0)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.text.code == "sound-too-long"
    assert peak_bytes < 8 << 20
