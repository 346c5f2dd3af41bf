"""The kind of an upload comes from its first bytes, and only then from its name."""

import gzip
import hashlib

import pytest

from shared.inspection.upload_kinds import START_BYTES, UploadKind, detect_kind

pytestmark = pytest.mark.quick

TABLE = "a;b\n1,5;é\n" * 20
NOISE = hashlib.shake_128(b"noise").digest(START_BYTES)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_a_table_in_every_encoding(encoding: str) -> None:
    assert detect_kind(TABLE.encode(encoding), None) is UploadKind.TABLE


@pytest.mark.parametrize(
    "start",
    [
        "一,二\n".encode("gb18030") * 20,
        gzip.compress(b"a,b\n", mtime=0),
        b"PAR1" + NOISE,
        b"PK\x03\x04" + NOISE,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE,
        b"@relation iris\n@attribute a numeric\n",
        b"MAC address,wvpk,caff,.snd\n1,2,3,4\n",
        b"RIFF,WAVE\n1,2\n",
        b"row,free,skip\n1,2,3\n",
        b"TTA1,TTA2\n1,2\n",
        (b"G" + b"," * 186 + b"\n") * 9,
        b"a,b\n1,\x00\n",
        b"",
    ],
)
def test_tables_of_other_formats_are_recognised(start: bytes) -> None:
    assert detect_kind(start, "music.mp3") is UploadKind.TABLE


@pytest.mark.parametrize(
    "start",
    [
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"FORM\x00\x00\x00\x24AIFF",
        b"fLaC\x00\x00\x00\x22",
        b"OggS\x00\x02",
        b"ID3\x03\x00",
        b"\xff\xfb\x90\x00",
        b"\xff\xf1\x50\x80",
        b"\x00\x00\x00\x18ftypM4A ",
        b"\x1a\x45\xdf\xa3\x9f",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        b"caff\x00\x01",
        b"\x0b\x77\x00",
        b"\x77\x0b\x00",
        b"#!AMR\n",
        b"RIFF\x24\x00\x00\x00AVI LIST",
        b"BW64\xff\xff\xff\xffWAVE",
        b"riff\x2e\x91\xcf\x11",
        b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat",
        b"\x00\x00\x10\x00moov",
        b"FLV\x01\x05",
        b"TTA1\x01\x00",
        b"wvpk\xfe\x01\x01\x00\x10\x04",
        b"\x00\x00\x01\xba\x44",
        (b"G\x40\x11" + b"\xff" * 185) * 3,
        b"\x7f\xfe\x80\x01\xfc",
        b"#EXTM3U\nhttp://example.org/a.mp3\n",
        b"ffconcat version 1.0\n",
    ],
)
def test_audio_is_recognised_by_its_content(start: bytes) -> None:
    assert detect_kind(start + NOISE, "table.csv") is UploadKind.AUDIO


@pytest.mark.parametrize("start", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<?xml version='1.0'?><a/>"])
def test_markup_is_audio_only_if_it_is_called_so_and_its_inspection_then_says_what_it_is(start: bytes) -> None:
    assert detect_kind(start, "music.mp3") is UploadKind.AUDIO
    assert detect_kind(start, "table.csv") is UploadKind.TABLE
    assert detect_kind(start, None) is UploadKind.TABLE


@pytest.mark.parametrize(
    ("name", "kind"),
    [("table.CSV", "table"), ("book.xlsx", "table"), ("a.mp3", "audio"), ("a.png", "unknown"), (None, "unknown")],
)
def test_name_decides_if_the_content_does_not(name: str | None, kind: str) -> None:
    assert detect_kind(NOISE, name) == kind
