"""The encoding of short tables with the words of some languages."""

from pathlib import Path

import pytest

from shared.tables.encodings import detect_encoding
from tests.unit.shared.tables.reading_files import codes, column, inspect, read

GERMAN = "ort,größe\nKöln,1\nMünchen,2\nZürich,3\n"
FRENCH = "prénom,âge\nÉlève,1\nNoël,2\ncœur,3\n"
CHINESE = "城市,性别,成绩\n北京,男,90\n上海,女,85\n广州,男,70\n"


@pytest.mark.parametrize("text", [GERMAN, FRENCH])
def test_western_texts_are_read_as_cp1252_with_a_warning(tmp_path: Path, text: str) -> None:
    content = text.encode("cp1252")
    facts = inspect(tmp_path, content)
    assert (facts.encoding, codes(facts)[0]) == ("cp1252", "encoding-guessed")
    name = facts.columns[0].name
    assert column(read(tmp_path, content), name) == column(read(tmp_path, text), name)


def test_bytes_that_cp1252_does_not_define_are_latin_1() -> None:
    assert detect_encoding("größe,x\n\x81,1\n".encode("latin-1")) == "latin-1"


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8", "utf-16", "utf-16-le"])
def test_chinese_texts(tmp_path: Path, encoding: str) -> None:
    facts = inspect(tmp_path, CHINESE.encode(encoding))
    assert facts.encoding == encoding
    assert [column.name for column in facts.columns] == ["城市", "性别", "成绩"]


def test_encoding_that_was_set_is_used_without_a_warning(tmp_path: Path) -> None:
    facts = inspect(tmp_path, GERMAN.encode("cp1252"), encoding="latin-1")
    assert (facts.encoding, facts.columns[1].name, codes(facts)) == ("latin-1", "größe", [])
