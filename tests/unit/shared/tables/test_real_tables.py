"""Tables as people have them, each made here after a file that was refused, or read wrongly."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.unit.shared.tables.reading_files import codes, column, excluded, inspect, label, read, types

ROWS = [("ab"[index % 2], index, (index * 7) % 13) for index in range(30)]


def test_row_names_of_r_are_left_out(tmp_path: Path) -> None:
    lines = ["rownames,Sepal.Length,Species", *(f"{n},{5 + n % 7 / 10},{'abc'[n % 3]}" for n in range(1, 31))]
    facts = inspect(tmp_path, "\n".join(lines))
    assert excluded(facts) == {"rownames": "row-numbers"}
    assert label(facts) == ("Species", "classification")


def test_missing_words_are_missing_in_numbers_and_texts(tmp_path: Path) -> None:
    text = "species,mass,sex\nA,3750,male\nA,NA,NA\nB,3250,female\nB,3300,male\n"
    facts = inspect(tmp_path, text)
    assert types(facts) == {"species": "text", "mass": "integer", "sex": "text"}
    assert [column.missing for column in facts.columns] == [0, 1, 1]
    assert column(read(tmp_path, text), "sex") == ["male", None, "female", "male"]
    np.testing.assert_array_equal(column(read(tmp_path, text), "mass"), [3750, np.nan, 3250, 3300])


def test_label_nan_among_numbers_is_missing(tmp_path: Path) -> None:
    facts = inspect(tmp_path, "y,x1,x2\n" + "nan,0,0\n1,7,3\n2,4,1\n3,1,4\n" * 5)
    assert (facts.columns[0].type, facts.columns[0].distinct, facts.columns[0].missing) == ("integer", 3, 5)
    assert label(facts) == ("y", "classification")


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    text = "y;x1;x2\n" + "".join(f"{y};{x1},5;{x2},25\n" for y, x1, x2 in ROWS)
    facts = inspect(tmp_path, text)
    assert (facts.delimiter, facts.decimal, types(facts)) == (";", ",", {"y": "text", "x1": "number", "x2": "number"})
    assert column(read(tmp_path, text), "x2") == [x2 + 0.25 for _, _, x2 in ROWS]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-8-sig"])
def test_encodings_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    text = "y,x1,x2\n" + "".join(f"{y},{x1},{x2}\n" for y, x1, x2 in ROWS)
    facts = inspect(tmp_path, text.encode(encoding))
    assert facts.encoding == encoding.removesuffix("-sig")
    assert types(facts) == {"y": "text", "x1": "integer", "x2": "integer"}


@pytest.mark.parametrize("header", ["y,x1,x2,", "y,x1,x2"])
def test_delimiters_at_the_end_of_lines_make_no_column(tmp_path: Path, header: str) -> None:
    facts = inspect(tmp_path, f"{header}\n" + "".join(f"{y},{x1},{x2},\n" for y, x1, x2 in ROWS))
    assert [column.name for column in facts.columns] == ["y", "x1", "x2"]
    assert facts.rows == 30


def test_file_without_a_header_keeps_its_first_row_and_says_so(tmp_path: Path) -> None:
    facts = inspect(tmp_path, "".join(f"{y},{x1},{x2}\n" for y, x1, x2 in ROWS))
    assert (facts.header, facts.rows, codes(facts)) == (False, 30, ["header-missing"])
    assert [column.name for column in facts.columns] == ["column 0", "column 1", "column 2"]
    assert label(facts) == ("column 0", "classification")


def test_many_different_numbers_suggest_regression(tmp_path: Path) -> None:
    facts = inspect(tmp_path, "y,x\n" + "".join(f"{index * 1.5},{index % 9}\n" for index in range(200)))
    assert label(facts) == ("y", "regression")


def test_sorted_rows_are_read_in_their_order(tmp_path: Path) -> None:
    text = "class,age,sex,survived\n" + "1,1,1,1\n" * 20 + "3,1,0,0\n" * 30
    facts = inspect(tmp_path, text)
    assert label(facts) == ("survived", "classification")
    assert excluded(facts) == {"age": "constant"}
    assert column(read(tmp_path, text), "class") == [1.0] * 20 + [3.0] * 30


@pytest.mark.parametrize("title", ["Sales of 2024\n", "Sales of 2024,,\nby shop,,\n\n"])
def test_lines_above_the_table_are_skipped(tmp_path: Path, title: str) -> None:
    rows = "".join(f"{y},{x1},{x2}\n" for y, x1, x2 in ROWS)
    facts = inspect(tmp_path, f"{title}y,x1,x2\n{rows}")
    assert types(facts) == {"y": "text", "x1": "integer", "x2": "integer"}
    assert (facts.rows, facts.warnings[0].code) == (30, "titles-skipped")
    assert read(tmp_path, f"{title}y,x1,x2\n{rows}").lines[0] == title.count("\n") + 2


@pytest.mark.parametrize("first", ["1,,", "y,,", "a,1,2"])
def test_first_row_with_gaps_is_no_title(tmp_path: Path, first: str) -> None:
    facts = inspect(tmp_path, f"{first}\n" + "".join(f"{y},{x1},{x2}\n" for y, x1, x2 in ROWS))
    assert "titles-skipped" not in codes(facts)


def test_header_of_r_that_is_one_name_short(tmp_path: Path) -> None:
    text = '"mpg" "cyl" "am"\n"Mazda RX4" 21 6 "yes"\n"Datsun 710" 22.8 4 "no"\n"Fiat 128" 32.4 4 "no"\n'
    facts = inspect(tmp_path, text)
    assert facts.delimiter == " "
    assert types(facts) == {"column 0": "text", "mpg": "number", "cyl": "integer", "am": "text"}
    assert excluded(facts) == {"column 0": "unnamed"}
    assert column(read(tmp_path, text), "column 0") == ["Mazda RX4", "Datsun 710", "Fiat 128"]


def test_gzip_of_several_members(tmp_path: Path) -> None:
    content = gzip.compress(b"y,x\na,1\n") + gzip.compress(b"b,2\na,5\n")
    facts = inspect(tmp_path, content)
    assert (facts.compressed, facts.rows) == (True, 3)


def test_apostrophes_around_all_names_are_removed(tmp_path: Path) -> None:
    text = "'OBS'   'GPA'   'GRADE'\n1  2.66  0\n2  2.89  0\n3  3.28  1\n4  3.1  1\n"
    assert [column.name for column in inspect(tmp_path, text).columns] == ["OBS", "GPA", "GRADE"]


def test_years_in_a_header_are_names(tmp_path: Path) -> None:
    text = "country,code,2001,2002,2003\nAruba,ABW,4.8,4.6,4.5\nAngola,AGO,7.3,7.4,7.4\nAlbania,ALB,6.1,6.0,5.9\n"
    assert inspect(tmp_path, text).header


def test_numbers_instead_of_names_over_texts_and_numbers(tmp_path: Path) -> None:
    # scikit-learn writes the number of rows and columns, and the names of the classes, above the numbers.
    text = "150,4,setosa,versicolor,virginica\n" + "5.1,3.5,1.4,0.2,0\n4.9,3.0,1.4,0.2,1\n6.3,3.3,6.0,2.5,2\n" * 4
    facts = inspect(tmp_path, text)
    assert set(types(facts).values()) == {"number", "integer"}
    assert label(facts) == ("virginica", "classification")
