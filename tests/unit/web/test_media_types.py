"""The media type of a file comes from its content."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from web.media_types import TEXT_BYTES, detect_media_type

AUDIO = {
    "WAV": "audio/wav",
    "WAVEX": "audio/wav",
    "FLAC": "audio/flac",
    "OGG": "audio/ogg",
    "MP3": "audio/mpeg",
    "AIFF": "audio/x-aiff",
}


def encode_tone(audio_format: str) -> bytes:
    file = io.BytesIO()
    times_s = np.arange(8_000) / 32_000
    soundfile.write(file, np.sin(2_764 * times_s).astype(np.float32), 32_000, format=audio_format)
    return file.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize(("audio_format", "media_type"), AUDIO.items())
def test_audio_is_recognised_by_its_format(file: Path, audio_format: str, media_type: str) -> None:
    file.write_bytes(encode_tone(audio_format))
    assert detect_media_type(file) == media_type


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"kind,a\nx,1\n", "text/csv"),
        ("\ufeffkind,a\nx,é\n".encode(), "text/csv"),
        (b"<script>alert(1)</script>", "text/csv"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text/csv"),
        ("kind,é\n".encode("latin-1"), "application/octet-stream"),
        ("kind,a\n".encode("utf-16"), "application/octet-stream"),
        (b"kind,a\n\0", "application/octet-stream"),
        (bytes(range(256)), "application/octet-stream"),
        (b"\x7fELF" + bytes(100), "application/octet-stream"),
        (b"RIFF", "text/csv"),
        (b"RIFF\xff\xff\xff\xffWAVE", "application/octet-stream"),
        (b"fLaC" + b"\xff" * 40, "application/octet-stream"),
        (b"OggS" + b"\xff" * 40, "application/octet-stream"),
        (encode_tone("WAV")[:30], "application/octet-stream"),
    ],
)
def test_content_other_than_audio_is_detected_as_csv_or_octet_stream(
    file: Path, content: bytes, media_type: str
) -> None:
    file.write_bytes(content)
    assert detect_media_type(file) == media_type


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_text_is_detected_if_the_read_limit_splits_a_character(file: Path, character: str) -> None:
    for before in range(1, len(character.encode())):
        file.write_bytes(b"a" * (TEXT_BYTES - before) + character.encode() + b"\n")
        assert detect_media_type(file) == "text/csv"


def test_file_that_ends_within_a_character_is_not_text(file: Path) -> None:
    file.write_bytes("kind,é".encode()[:-1])
    assert detect_media_type(file) == "application/octet-stream"
    file.write_bytes(b"a" * (TEXT_BYTES - 1) + "é".encode()[:1])
    assert detect_media_type(file) == "application/octet-stream"
