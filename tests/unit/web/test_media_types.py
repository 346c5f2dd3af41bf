"""The media type of a file comes from its content."""

from pathlib import Path

import pytest

from web.media_types import TEXT_BYTES, detect_media_type

AUDIO = {
    b"RIFF\x24\0\0\0WAVEfmt ": "audio/wav",
    b"RF64\xff\xff\xff\xffWAVEds64": "audio/wav",
    b"fLaC\0\0\0\x22": "audio/flac",
    b"OggS\0\x02": "audio/ogg",
    b"ID3\x04\0\0": "audio/mpeg",
    b"\xff\xfb\x90\0": "audio/mpeg",
    b"\xff\xf1\x50\x80": "audio/aac",
    b"FORM\0\0\0\x24AIFF": "audio/x-aiff",
    b"\0\0\0\x20ftypM4A \0": "audio/mp4",
    b"\0\0\0\x20ftypisom\0": "video/mp4",
    b"\0\0\0\x14ftypqt  \0": "video/quicktime",
    b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\x82\x84webm": "video/webm",
    b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska": "video/x-matroska",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize(("start", "media_type"), AUDIO.items())
def test_audio_is_recognised_by_its_first_bytes(file: Path, start: bytes, media_type: str) -> None:
    file.write_bytes(start + b"\xff" * 100)
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
        (b"RIFF\xff\xff\xff\xffWAXE", "application/octet-stream"),
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
