"""Delimiters, comments, blank lines, quotes and the file's own line numbers."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.shared.tables.reading_files import column, inspect, read, refuse, types

ROWS = [["a b", "1", "x, y; z"], ["c d", "2", "p | q"], ["e f", "3", "r\ts"], ["g h", "4", "t"]]


def join(delimiter: str) -> str:
    header = delimiter.join(["name", "n", "note"])
    return header + "\n" + "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in ROWS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_quoted_cells_may_contain_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    facts = inspect(tmp_path, join(delimiter))
    assert (facts.delimiter, facts.rows) == (delimiter, 4)
    assert column(read(tmp_path, join(delimiter)), "note") == ["x, y; z", "p | q", "r\ts", "t"]


@pytest.mark.parametrize("line", ["sep=|", '"sep=|"', "SEP=|"])
def test_first_line_can_name_the_delimiter(tmp_path: Path, line: str) -> None:
    facts = inspect(tmp_path, f"{line}\r\ny|x\r\na|1\r\nb|2\r\n")
    assert (facts.delimiter, facts.rows, types(facts)) == ("|", 2, {"y": "text", "x": "integer"})


def test_runs_of_blanks_and_tabs_divide_columns(tmp_path: Path) -> None:
    text = '  y    x1\t x2\n a    1  2.5\n b   10   3\n "c d"  7 \t 8 \n'
    table = read(tmp_path, text)
    assert [column.name for column in table.columns] == ["y", "x1", "x2"]
    assert column(table, "y") == ["a", "b", "c d"]


def test_comments_and_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    text = "# made by a program, version 1, 2024\n\ny,x\na,1\n   \n% not a row\nb,2\n,,\nc,3\n\n"
    facts = inspect(tmp_path, text)
    assert (facts.comment_lines, facts.blank_lines, facts.rows) == (2, 4, 3)
    assert list(read(tmp_path, text).lines) == [4, 7, 9]


def test_long_comments_and_many_blank_lines_before_the_table(tmp_path: Path) -> None:
    text = "# a, b; c\n" * 1_000 + "\n" * 1_000 + "y;x\na;1\nb;2\n"
    facts = inspect(tmp_path, text)
    assert (facts.delimiter, facts.rows, facts.comment_lines, facts.blank_lines) == (";", 2, 1_000, 1_000)


def test_lines_of_colours_are_no_comments(tmp_path: Path) -> None:
    text = "colour,x\n#ff0000,1\n#00ff00,2\n#0000ff,3\n"
    assert column(read(tmp_path, text), "colour") == ["#ff0000", "#00ff00", "#0000ff"]


def test_lines_are_those_of_the_file_after_quoted_newlines(tmp_path: Path) -> None:
    text = 'y,note\na,"two\nlines\n# and no comment\n\n"\nb,one\nc,d,e\n'
    assert list(read(tmp_path, text.replace("c,d,e\n", "")).lines) == [2, 7]
    error = refuse(tmp_path, text)
    assert error.detail == "One place of the file cannot be read: line 8 has 3 cells instead of 2. Correct it."


def test_all_bad_rows_are_in_one_answer(tmp_path: Path) -> None:
    lines = ["y,x1,x2", *(["a,1,2"] * 40)]
    for line in range(5, 35, 2):
        lines[line - 1] = "b,1"
    lines[6] = "c,1e400,2"
    error = refuse(tmp_path, "\n".join(lines))
    assert error.text.code == "bad-cells-first"
    assert error.text.values == {"count": 15, "named": 10}
    assert [detail.values["line"] for detail in error.text.details] == [5, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    assert "line 7, column 'x1': '1e400' is not a finite number" in error.detail


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400", "-1E999"])
def test_infinite_numbers_are_bad_cells(tmp_path: Path, cell: str) -> None:
    error = refuse(tmp_path, f"y,x\na,1\nb,{cell}\nc,3\n")
    assert [detail.code for detail in error.text.details] == ["cell-not-finite"]
    assert "line 3, column 'x'" in error.detail


def test_bytes_that_are_not_utf8_are_named_by_their_lines(tmp_path: Path) -> None:
    text = "ort,größe\n" + "köln,1\nmünchen,2\n" * 5
    content = text.encode() + b"k\xf6ln,3\n"
    error = refuse(tmp_path, content)
    assert error.detail.startswith("One place of the file cannot be read: line 12 has bytes that are not utf-8")


def test_nul_bytes_are_named_by_their_lines(tmp_path: Path) -> None:
    assert "line 3 has a NUL byte" in refuse(tmp_path, "y,x\n" + "aaaaaaaaaa,1\n" + "b\0,2\n" + "c,3\n" * 30).detail


def test_quote_that_does_not_end_is_named_by_its_line(tmp_path: Path) -> None:
    error = refuse(tmp_path, 'y,x\na,1\nb,2\nc,"3\nd,4\n')
    assert "line 4 opens a quote that does not end" in error.detail


def test_cells_can_be_empty_at_the_end_of_some_rows(tmp_path: Path) -> None:
    assert inspect(tmp_path, "y,x\na,1,\nb,2\nc,3,,\n").rows == 3


def test_quote_that_makes_the_whole_file_one_cell_is_named_first(tmp_path: Path) -> None:
    assert "line 1 opens a quote that does not end" in refuse(tmp_path, '"a,b' + "\n1,2" * 9).detail


def test_blanks_after_delimiters_do_not_hide_quotes(tmp_path: Path) -> None:
    assert column(read(tmp_path, 'y, x\n"a, b", 1\n"c", 2\n'), "y") == ["a, b", "c"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(tmp_path: Path, end: str) -> None:
    assert inspect(tmp_path, end.join(["y,x", "a,1", "b,2", ""])).rows == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("x\n1\n2\n3\n", "one-column"),
        ("x,\n1,\n2,\n3,\n", "one-column"),
        ("y,x\n", "rows-missing"),
        ("", "file-empty"),
        ("\n \n", "file-empty"),
        ("\ufeff\n", "file-empty"),
        ("sep=;\n", "rows-missing"),
        ("A text of a few lines;\nits words, of which there are some,\nare no cells.\nIt ends, here.", "bad-cells"),
    ],
)
def test_texts_that_are_no_tables(tmp_path: Path, content: str, code: str) -> None:
    assert refuse(tmp_path, content).text.code == code


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"delimiter": ";"}, "delimiter-useless"),
        ({"delimiter": "x"}, "delimiter-unknown"),
        ({"decimal": ","}, "decimal-wrong"),
        ({"decimal": "'"}, "decimal-unknown"),
        ({"encoding": "klingon"}, "encoding-unknown"),
        ({"encoding": "utf-16"}, "one-column"),
        ({"sheet": "Data"}, "option-unused"),
    ],
)
def test_wrong_options_end_in_sentences(tmp_path: Path, options: dict[str, Any], code: str) -> None:
    assert refuse(tmp_path, "y,x\na,1.5\nb,2.5\nc,3.5\n", **options).text.code == code


def test_wrong_decimal_mark_names_column_and_line(tmp_path: Path) -> None:
    error = refuse(tmp_path, "y;x\na;1\nb;2,5\n", decimal=".")
    assert error.detail == (
        "Column 'x', line 3: with '.' as the decimal mark, '2,5' is not a number. Choose ',', or let it be detected."
    )


def test_header_can_be_set(tmp_path: Path) -> None:
    text = "y,x\na,1\nb,2\n"
    facts = inspect(tmp_path, text, header=False)
    assert (facts.rows, [warning.code for warning in facts.warnings]) == (3, ["header-likely"])
    assert inspect(tmp_path, "1,2\n3,4\n5,6\n", header=True).columns[1].name == "2"


def test_header_of_another_length_is_a_bad_row(tmp_path: Path) -> None:
    assert (
        "line 1 has 2 cells instead of 4" in refuse(tmp_path, "178,13\n1,2,3,4\n5,6,7,8\n5,6,7,9\n", header=True).detail
    )
