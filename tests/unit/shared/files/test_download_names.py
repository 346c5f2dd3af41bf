"""Names of downloads can be stored on every system, whatever the prompt is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.files.download_names import MAX_NAME_BYTES, make_ascii_name, make_name

DEVICES = ["CON", "nul", "Aux", "PRN", "COM1", "lpt9", "COM²", "CONIN$", "clock$"]
WIDE = "\N{FULLWIDTH LATIN CAPITAL LETTER N}\N{FULLWIDTH LATIN CAPITAL LETTER U}\N{FULLWIDTH LATIN CAPITAL LETTER L}"
PROMPTS = st.one_of(
    st.text(),
    st.text(st.sampled_from('../\\:*?"<>| \t\n\0\u202e\u200b\u2028e\u0301٣🎵'), max_size=400),
    st.builds("{}{}".format, st.sampled_from(DEVICES), st.sampled_from(["", ".", " ", ".txt", " .mp3", "x"])),
)
ENDS = st.sampled_from([" 7.wav", " 9223372036854775807 spectrogram.png", ".wav"])


def check_portable(name: str, end: str) -> None:
    assert name.endswith(end)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not set(name) & set('<>:"/\\|?*')
    assert name == " ".join(name.split(" "))
    assert all(unicodedata.category(character)[0] != "C" for character in name)
    assert all(character == " " or not character.isspace() for character in name)
    assert name[0] not in " .-"
    base = name.partition(".")[0].rstrip().upper()
    assert base not in {"CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"}
    assert not (base[:3] in {"COM", "LPT"} and base[3:] in [*"0123456789¹²³"])


@given(PROMPTS, ENDS)
def test_every_prompt_gives_a_portable_name(prompt: str, end: str) -> None:
    name = make_name(prompt, end, "musicgen-small")
    check_portable(name, end)
    assert make_name(prompt, end, "musicgen-small") == name
    plain = make_ascii_name(name)
    assert plain.isascii()
    check_portable(plain, end.rpartition(".")[1] + end.rpartition(".")[2])


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30))
def test_letters_of_every_script_are_kept(prompt: str) -> None:
    name = make_name(prompt, " 1.wav")
    assert unicodedata.normalize("NFC", prompt).strip() in name


def test_names_of_uploads_have_an_ascii_form_too() -> None:
    assert make_ascii_name("Größe") == "Groe"
    assert make_ascii_name("Größe.tar.gz") == "Groe.tar.gz"
    assert make_ascii_name("一") == "file"
    assert make_ascii_name("é." + "x" * 300) == "e." + "x" * (MAX_NAME_BYTES - 3)


@pytest.mark.parametrize(
    ("prompt", "name", "plain"),
    [
        ("80s pop track", "80s pop track 7.wav", "80s pop track 7.wav"),
        ("一首悲伤的钢琴曲", "一首悲伤的钢琴曲 7.wav", "7.wav"),
        ("Café: \u202egnp/exe\u202c", "Café gnp exe 7.wav", "Cafe gnp exe 7.wav"),
        ("CON.x", "_CON.x 7.wav", "_CON.x 7.wav"),
        ("../../etc/passwd", "etc passwd 7.wav", "etc passwd 7.wav"),
        ("\u202e\0", "tiny 7.wav", "tiny 7.wav"),
        (f"{WIDE}.x", f"{WIDE}.x 7.wav", "_NUL.x 7.wav"),
        ("ä" * 4_000, "ä" * ((MAX_NAME_BYTES - 7) // 2) + " 7.wav", "a" * ((MAX_NAME_BYTES - 7) // 2) + " 7.wav"),
    ],
)
def test_names(prompt: str, name: str, plain: str) -> None:
    assert make_name(prompt, " 7.wav", "tiny") == name
    assert make_ascii_name(name) == plain
