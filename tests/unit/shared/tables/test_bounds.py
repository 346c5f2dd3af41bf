"""What a file may cost: each limit ends in a sentence, before memory is taken."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from shared.tables.delimited import MAX_CELL_CHARS, MAX_LINE_CHARS
from shared.tables.errors import TableError
from shared.tables.facts import Limits, ReadOptions
from shared.tables.grid import MAX_CELLS, check_rows
from shared.tables.reading import read_table
from tests.unit.shared.tables.reading_files import LIMITS, inspect, refuse


def test_gzip_bomb(tmp_path: Path) -> None:
    bomb = gzip.compress(b"y,x\n" + b"a,1\n" * 2**20)
    assert len(bomb) < 2**14
    assert refuse(tmp_path, bomb, replace(LIMITS, bytes=2**20)).text.code == "file-too-long"


@pytest.mark.parametrize("keep", [10, 40, -1])
def test_incomplete_gzip(tmp_path: Path, keep: int) -> None:
    content = gzip.compress("".join(f"{n},{n * n}\n" for n in range(100)).encode())
    assert refuse(tmp_path, content[:keep]).text.code == "gzip-damaged"


def test_gzip_with_a_wrong_checksum(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"y,x\na,1\n"))
    content[-5] ^= 1
    assert refuse(tmp_path, bytes(content)).text.code == "gzip-damaged"


def test_more_bytes_than_the_limit(tmp_path: Path) -> None:
    assert refuse(tmp_path, "y,x\n" + "a,1\n" * 300, replace(LIMITS, bytes=1_000)).text.code == "file-too-long"


def test_more_columns_than_the_limit(tmp_path: Path) -> None:
    line = ",".join(map(str, range(5_001)))
    assert refuse(tmp_path, f"{line}\n{line}\n").detail == "The table has 5001 columns, more than 2000. Upload fewer."


def test_one_long_line(tmp_path: Path) -> None:
    error = refuse(tmp_path, "y,x\n" + "1," * (MAX_LINE_CHARS // 2 + 1))
    assert (error.text.code, error.text.values["line"]) == ("line-too-long", 2)


def test_ten_million_short_rows_stop_at_the_limit(tmp_path: Path) -> None:
    error = refuse(tmp_path, b"1,2\n" * 10_000_000, replace(LIMITS, rows=1_000))
    assert (error.text.code, error.text.values["max_rows"]) == ("rows-too-many", 1_000)


def test_rows_of_another_width_count_for_the_limit(tmp_path: Path) -> None:
    content = "y,x\n" + "a,1\n" * 400 + "1\n" * 700
    assert refuse(tmp_path, content, replace(LIMITS, rows=1_000)).text.code == "rows-too-many"
    assert refuse(tmp_path, content, replace(LIMITS, rows=1_100)).text.values["count"] == 700


def test_limit_of_rows_does_not_count_the_header_and_comments(tmp_path: Path) -> None:
    text = "# a comment\ny,x\na,1\n\nb,2\nc,3\n"
    assert inspect(tmp_path, text, replace(LIMITS, rows=3)).rows == 3
    assert refuse(tmp_path, text, replace(LIMITS, rows=2)).text.code == "rows-too-many"


def test_more_cells_than_fit_into_memory() -> None:
    with pytest.raises(TableError) as raised:
        check_rows(MAX_CELLS // 1_000 + 1, 1_000, Limits(rows=MAX_CELLS, columns=1_000, bytes=1))
    assert raised.value.text.code == "cells-too-many"


def test_long_cell_names_the_line(tmp_path: Path) -> None:
    error = refuse(tmp_path, f'y,x\na,1\n"{"b" * (MAX_CELL_CHARS + 1)}",2\n')
    assert "line 3 has a cell of more than" in error.detail


def test_long_name_of_a_column(tmp_path: Path) -> None:
    assert refuse(tmp_path, f"{'y' * 1_001},x\na,1\nb,2\n").text.code == "name-too-long"


def test_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(TableError) as raised:
        read_table(tmp_path / "gone", ReadOptions(), LIMITS)
    assert raised.value.text.code == "file-gone"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"  <!DOCTYPE html><p>a,b", "a web page"),
        (b'\xef\xbb\xbf{"a": 1}', "a JSON file"),
        (gzip.compress(b"\x89HDF\r\n", mtime=0), "an HDF5 file"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    assert f"The file is {what}" in refuse(tmp_path, content).detail


def test_other_binary_files(tmp_path: Path) -> None:
    assert refuse(tmp_path, bytes(range(256)) * 20).text.code == "file-binary"


def test_cells_in_facts_are_short(tmp_path: Path) -> None:
    facts = inspect(tmp_path, f"y,x\n{'a' * 500},1\n{'b' * 500},2\n")
    shown = [facts.sample[0][0], facts.columns[0].examples[0], facts.columns[0].values[0][0]]
    assert [(len(cell), cell[-1]) for cell in shown] == [(60, "…")] * 3
