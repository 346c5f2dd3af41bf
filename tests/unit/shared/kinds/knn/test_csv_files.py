"""The preview of a table: its first rows, for usual, unusual and invalid files."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.errors import RequestInvalidError
from shared.kinds.knn.csv_files import PREVIEW_BYTES, UPLOAD, Preview, preview
from shared.kinds.knn.datasets import DATA_FOLDER, WINE


def preview_bytes(tmp_path: Path, content: bytes, *, rows: int = 2, header: bool = True) -> Preview:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    return preview(file, rows, header=header)


@pytest.mark.parametrize(
    ("content", "columns", "rows"),
    [
        (b"kind,a\nx,1\ny,2\nz,3\n", ["kind", "a"], [["x", "1"], ["y", "2"]]),
        (b"kind , a\r\nx,1", ["kind", "a"], [["x", "1"]]),
        (b"kind,a\rx,1\r", ["kind", "a"], [["x", "1"]]),
        (b'"kind, or so","say ""a"""\n"two\nlines",1\n', ["kind, or so", 'say "a"'], [["two\nlines", "1"]]),
        (b"\xef\xbb\xbfkind,a\nx,1\n", ["kind", "a"], [["x", "1"]]),
        ("Säure,ä\nx,1\n".encode(), ["Säure", "ä"], [["x", "1"]]),
        (b"\n \nkind,a\n\nx,1\n,\ny,2\n", ["kind", "a"], [["x", "1"], ["y", "2"]]),
        (b"kind,a\nx\ny,2,3\n", ["kind", "a"], [["x"], ["y", "2", "3"]]),
        (b"kind,a\n", ["kind", "a"], []),
    ],
)
def test_preview_returns_column_names_and_first_rows(
    tmp_path: Path, content: bytes, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    shown = preview_bytes(tmp_path, content)
    assert (shown.columns, shown.rows) == (columns, rows)


def test_columns_without_a_header_are_named_by_position(tmp_path: Path) -> None:
    shown = preview_bytes(tmp_path, b"x,1\ny,2\nz,3\n", header=False)
    assert (shown.columns, shown.rows) == (["column 0", "column 1"], [["x", "1"], ["y", "2"]])


@pytest.mark.parametrize("header", [True, False])
def test_preview_of_wine_has_the_given_column_names_and_no_header_row(*, header: bool) -> None:
    names = (WINE.label, *WINE.columns)
    shown = preview(DATA_FOLDER / WINE.file, 2, names, header=header)
    assert shown.columns == names
    assert [row[:3] for row in shown.rows] == [["1", "14.23", "1.71"], ["1", "13.2", "1.78"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n \n,,\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"kind,a\nS\xe4ure,1\n", "not UTF-8 text (byte 8)"),
        (b"RIFF\x00\x00\x00\x00WAVE", "is binary"),
        (b"x" * 200_000, "line 1 is not CSV"),
    ],
)
def test_file_that_is_not_a_table_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        preview_bytes(tmp_path, content)
    (problem,) = caught.value.problems
    assert problem.pointer == UPLOAD
    assert words in problem.detail


LONG_CELL = "é" * 60_000  # below the parser's limit of 131,072 characters per cell
ROW = f"{LONG_CELL},1".encode()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("shift", range(3))
def test_row_that_the_preview_limit_cuts_is_left_out(tmp_path: Path, end: bytes, shift: int) -> None:
    head = b"kind," + b"a" * (shift + 1)
    content = end.join([head] + [ROW] * 4)
    assert len(content) > PREVIEW_BYTES
    shown = preview_bytes(tmp_path, content, rows=5)
    assert [len(row[0]) for row in shown.rows] == [len(LONG_CELL)] * 2
    assert [row[1] for row in shown.rows] == ["1", "1"]


def test_row_is_left_out_if_the_preview_limit_cuts_a_quoted_cell(tmp_path: Path) -> None:
    quoted = b'"' + b"two\nlines\n" * 10_000 + b'",1\n'
    shown = preview_bytes(tmp_path, b"kind,a\n" + quoted * 3, rows=5)
    assert [row[1] for row in shown.rows] == ["1", "1"]


def test_last_row_is_kept_if_the_table_ends_exactly_at_the_preview_limit(tmp_path: Path) -> None:
    start, cell = b"kind,a\n", b"x" * 100_000
    rows = cell + b",1\n" + cell + b",2\n"
    last = b"y" * (PREVIEW_BYTES - len(start) - len(rows) - 2) + b",3"
    assert len(preview_bytes(tmp_path, start + rows + last, rows=5).rows) == 3
    assert len(preview_bytes(tmp_path, start + rows + last + b"3", rows=5).rows) == 2


@pytest.mark.parametrize("header", [True, False])
def test_preview_is_empty_if_the_first_row_exceeds_the_preview_limit(tmp_path: Path, *, header: bool) -> None:
    shown = preview_bytes(tmp_path, b"1234567," * (PREVIEW_BYTES // 8 + 1) + b"8\n1,2\n", header=header)
    assert (list(shown.columns), list(shown.rows)) == ([], [])
