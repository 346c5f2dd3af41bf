"""Every format keeps the texts of its files exactly, and other programs read them too."""

import io
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.audio.provenance import Provenance
from shared.audio.tags import NO_TAGS, Tags, read_tags
from shared.audio.wav import WavForm, build_wav, read_info
from shared.kinds.musicgen.audio_encoding import convert, decode, encode
from shared.kinds.musicgen.parameters import Format

RATE_HZ = 32_000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (2, RATE_HZ // 10)).astype(np.float32)
PROVENANCE = Provenance(
    prompt='一首悲伤的\n钢琴曲 🎵 "é" \\ \x01',
    seed=2**53 - 1,
    model="mindjobs/tiny",
    parameters={"top_k": 250, "sample_rate": None},
    engine="openvino",
    precision="int8",
    device="cpu",
    codes_sha256="0" * 64,
)
TEXTS = ["一首悲伤的 🎵 Ünï", "two\nlines\r\nthree", "a" * 3_999 + "ä", "trailing blank ", '"quoted" \\ %s']
FFPROBE = shutil.which("ffprobe")


@pytest.mark.parametrize("audio_format", Format)
@pytest.mark.parametrize("title", TEXTS)
def test_every_format_keeps_title_and_comment(audio_format: Format, title: str) -> None:
    comment = PROVENANCE.model_copy(update={"prompt": title * 5}).serialize()
    assert comment.isascii()
    content, _ = encode(NOISE, RATE_HZ, audio_format, Tags(title, comment, "mindjobs 1"))
    found = read_tags(io.BytesIO(content))
    assert (found.title, found.comment) == (title, comment)
    assert found.software.startswith("mindjobs 1")
    assert Provenance.parse(found.comment) == PROVENANCE.model_copy(update={"prompt": title * 5})


@pytest.mark.parametrize("audio_format", Format)
def test_tags_change_no_sample_and_the_same_audio_gives_the_same_bytes(audio_format: Format) -> None:
    tags = Tags("title", PROVENANCE.serialize(), "mindjobs")
    content, _ = encode(NOISE, RATE_HZ, audio_format, tags, dither_seed=3)
    assert encode(NOISE, RATE_HZ, audio_format, tags, dither_seed=3)[0] == content
    plain, _ = encode(NOISE, RATE_HZ, audio_format, NO_TAGS, dither_seed=3)
    np.testing.assert_array_equal(decode(content), decode(plain))
    assert read_tags(io.BytesIO(plain)).comment == ""


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60), st.sampled_from(Format))
def test_any_prompt_is_kept(prompt: str, audio_format: Format) -> None:
    provenance = PROVENANCE.model_copy(update={"prompt": prompt})
    content, _ = encode(NOISE[:1, :640], RATE_HZ, audio_format, Tags("t", provenance.serialize(), "mindjobs"))
    assert Provenance.parse(read_tags(io.BytesIO(content)).comment) == provenance


@pytest.mark.parametrize("audio_format", Format)
def test_a_nul_ends_a_title_and_the_comment_is_kept(audio_format: Format) -> None:
    provenance = PROVENANCE.model_copy(update={"prompt": "a\0b"})
    content, _ = encode(NOISE, RATE_HZ, audio_format, Tags("a\0b", provenance.serialize(), "mindjobs"))
    found = read_tags(io.BytesIO(content))
    assert found.title == "a"
    assert Provenance.parse(found.comment) == provenance


@pytest.mark.parametrize("audio_format", Format)
@pytest.mark.skipif(FFPROBE is None, reason="ffprobe is not installed")
def test_another_program_reads_the_tags(tmp_path: Path, audio_format: Format) -> None:
    path = tmp_path / f"x.{audio_format.extension}"
    comment = PROVENANCE.serialize()
    path.write_bytes(encode(NOISE, RATE_HZ, audio_format, Tags("一首\n🎵", comment, "mindjobs"))[0])
    told = subprocess.run(
        [FFPROBE or "", "-v", "error", "-of", "json", "-show_entries", "format_tags:stream_tags", str(path)],
        capture_output=True,
        check=True,
    )
    shown = json.loads(told.stdout)
    tags = {name.lower(): text for name, text in (shown["format"].get("tags") or shown["streams"][0]["tags"]).items()}
    assert (tags["title"], tags["comment"]) == ("一首\n🎵", comment)


@pytest.mark.parametrize("wanted", Format)
@pytest.mark.parametrize("stored_as", Format)
def test_a_converted_file_keeps_its_tags(stored_as: Format, wanted: Format) -> None:
    tags = Tags("一首 🎵", PROVENANCE.serialize(), "mindjobs")
    stored, _ = encode(NOISE, RATE_HZ, stored_as, tags)
    content, _ = convert(io.BytesIO(stored), wanted)
    found = read_tags(io.BytesIO(content))
    assert (found.title, found.comment) == (tags.title, tags.comment)
    assert found.software.startswith("mindjobs")


def test_a_float_file_has_exactly_the_given_samples_for_libsndfile_too() -> None:
    loud = NOISE * np.float32(7.3)
    content, _ = encode(loud, RATE_HZ, Format.WAV, Tags("odd", "comment", "mindjobs"))
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.format, file.subtype, file.frames) == ("WAV", "FLOAT", loud.shape[1])
        np.testing.assert_array_equal(file.read(dtype="float32").T, loud)
        assert file.title == "odd"
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    assert b"PEAK" not in content


def test_texts_of_a_damaged_wav_file_are_those_that_are_intact() -> None:
    content = build_wav(WavForm(1, RATE_HZ, 2, is_float=False), bytes(100), {"INAM": "title", "ICMT": "comment"})
    for length in range(0, 120, 7):
        found = read_info(io.BytesIO(content[:length]))
        assert set(found) <= {"INAM", "ICMT"}
    with pytest.raises(ValueError, match=r"."):
        read_tags(io.BytesIO(b"no audio"))
