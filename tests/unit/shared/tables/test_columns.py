"""The types of columns: numbers with their marks, booleans, dates and texts."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.shared.tables.reading_files import codes, column, inspect, read, refuse, types


def tabulate(cells: list[str], delimiter: str = "\t") -> str:
    """Write a table with the cells as its column ``x``."""
    return f"y{delimiter}x\n" + "".join(f"a{delimiter}{cell}\n" for cell in cells)


@pytest.mark.parametrize(
    ("cells", "numbers", "decimal", "thousands"),
    [
        (["1.5", "-2", "+3e2", ".5", "4."], [1.5, -2, 300, 0.5, 4], ".", None),
        (["1,5", "-2", "+3e2", ",5", "4,"], [1.5, -2, 300, 0.5, 4], ",", None),
        (["1,234.5", "12,345,678.25", "7"], [1234.5, 12345678.25, 7], ".", ","),
        (["1.234,5", "12.345.678,25", "7"], [1234.5, 12345678.25, 7], ",", "."),
        (["1 234,5", "12 345 678", "7"], [1234.5, 12345678, 7], ",", " "),
        (["1\u00a0234,5", "12\u00a0345", "7"], [1234.5, 12345, 7], ",", " "),
        (["1'234.5", "12'345'678", "7"], [1234.5, 12345678, 7], ".", "'"),
        (["1\u2019234.5", "12\u2019345", "7"], [1234.5, 12345, 7], ".", "'"),
        (["1,234,567", "2,345,678"], [1234567, 2345678], ".", ","),
        (["1.234.567", "2.345.678"], [1234567, 2345678], ",", "."),
        (["0,364", "1,234"], [0.364, 1.234], ",", None),
        (["1.234", "2.345"], [1.234, 2.345], ".", None),
    ],
)
def test_marks_of_numbers(
    tmp_path: Path, cells: list[str], numbers: list[float], decimal: str, thousands: str | None
) -> None:
    facts = inspect(tmp_path, tabulate(cells))
    assert facts.decimal == decimal
    assert (facts.thousands is None) == (thousands is None)
    assert column(read(tmp_path, tabulate(cells)), "x") == numbers


@pytest.mark.parametrize(
    ("cells", "delimiter", "numbers"),
    [
        (["1,234", "2,345"], "\t", [1234, 2345]),
        (["1,234", "2,345"], ";", [1.234, 2.345]),
        (["1,234", "950", "12,500"], ";", [1234, 950, 12500]),
        (["1,234", "9500", "12,500"], "\t", [1.234, 9500, 12.5]),
    ],
)
def test_ambiguous_comma_is_decided_by_other_cells_or_the_delimiter_with_a_warning(
    tmp_path: Path, cells: list[str], delimiter: str, numbers: list[float]
) -> None:
    text = tabulate(cells, delimiter)
    assert codes(inspect(tmp_path, text)) == ["decimal-ambiguous"]
    assert column(read(tmp_path, text), "x") == numbers


def test_quoted_thousands_between_commas(tmp_path: Path) -> None:
    text = 'y,x\na,"1,234"\nb,"12,345"\nc,"950"\n'
    assert column(read(tmp_path, text), "x") == [1234, 12345, 950]


@pytest.mark.parametrize(("other", "number"), [("0,5", 1.234), ("0.5", 1234)])
def test_other_columns_of_a_text_file_decide_an_ambiguous_one(tmp_path: Path, other: str, number: float) -> None:
    text = f"y\tx\tz\na\t1,234\t{other}\nb\t2,345\t{other}\n"
    facts = inspect(tmp_path, text)
    assert codes(facts) == []
    assert column(read(tmp_path, text), "x")[0] == number


def test_columns_that_contradict_each_other_are_read_each_by_its_own_mark(tmp_path: Path) -> None:
    text = "y\tx\tz\na\t1,5\t0.5\nb\t2,75\t0.25\n"
    assert inspect(tmp_path, text).decimal is None
    table = read(tmp_path, text)
    assert (column(table, "x"), column(table, "z")) == ([1.5, 2.75], [0.5, 0.25])


def test_decimal_mark_that_was_set_decides(tmp_path: Path) -> None:
    text = tabulate(["1,234", "2,345"])
    assert column(read(tmp_path, text, decimal=","), "x") == [1.234, 2.345]
    assert column(read(tmp_path, text, decimal="."), "x") == [1234, 2345]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "3"], "integer"),
        (["1.0", "2.0", "NA"], "integer"),
        (["1.5", "2", "3"], "number"),
        (["9007199254740993", "1", "2"], "number"),
        (["TRUE", "FALSE", "NA"], "boolean"),
        (["true", "False", "TRUE"], "boolean"),
        (["T", "F", "T"], "boolean"),
        (["true", "true", "true"], "boolean"),
        (["T", "T", "T"], "text"),
        (["yes", "no", "yes"], "text"),
        (["true", "false", "maybe"], "text"),
        (["true", "1", "0"], "text"),
        (["NA", "?", "-"], "empty"),
        (["1,2,3", "4,5", "6"], "text"),
        (["1.2.3", "4.5.6", "7"], "text"),
        (["\u0663", "\u0664", "\u0665"], "text"),
        (["0x10", "1_0", "5"], "text"),
        (["2024-01-31", "2024-02-01", "?"], "date"),
        (["12:30", "13:45", "14:00"], "text"),
    ],
)
def test_types(tmp_path: Path, cells: list[str], kind: str) -> None:
    assert types(inspect(tmp_path, tabulate(cells, ";")))["x"] == kind


def test_minus_is_a_value_beside_plus(tmp_path: Path) -> None:
    assert column(read(tmp_path, tabulate(["+", "-", "+", "-", "NA"])), "x") == ["+", "-", "+", "-", None]
    assert column(read(tmp_path, tabulate(["a", "-", "b", "none"])), "x") == ["a", None, "b", "none"]


def test_words_of_booleans_are_kept_for_the_names_of_classes(tmp_path: Path) -> None:
    found = read(tmp_path, tabulate(["True", "False", "NA"])).columns[1]
    assert found.words == ("False", "True")
    assert found.numbers is not None
    np.testing.assert_array_equal(found.numbers, [1, 0, np.nan])


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["1970-01-01", "1970-01-03", "1969-12-31"], [0, 2, -1]),
        (["1970/1/1", "1970/1/31", ""], [0, 30, np.nan]),
        (["31/1/1970", "1/2/1970", "2/3/1970"], [30, 31, 60]),
        (["1/31/1970", "2/1/1970", "3/2/1970"], [30, 31, 60]),
        (["1.2.1970", "2.2.1970", "3.2.1970"], [31, 32, 33]),
        (["1-Jan-1970", "31 January 1970", "2-feb-1970"], [0, 30, 32]),
        (["Jan 1 1970", "January 31, 1970", "Feb. 2, 1970"], [0, 30, 32]),
        (["1970-01-01T12:00:00Z", "1970-01-02 00:00", "1970-01-01T18:00:00.0"], [0.5, 1, 0.75]),
        (["1970-01-01T12:00+06:00", "1970-01-01T00:00:00-0600", "1970-01-02"], [0.25, 0.25, 1]),
        (["1/31/1970 12:00 AM", "1/31/1970 12:00 PM", "1/31/1970 6:00 pm"], [30, 30.5, 30.75]),
    ],
)
def test_dates_are_days_since_1970(tmp_path: Path, cells: list[str], days: list[float]) -> None:
    text = tabulate(cells)
    assert types(inspect(tmp_path, text))["x"] == "date"
    np.testing.assert_allclose(np.array(column(read(tmp_path, text), "x")), days)


@pytest.mark.parametrize(
    "cells", [["2024-02-30", "2024-01-01"], ["2024-13-01", "2024-01-01"], ["2024-01-01 25:00", "2024-01-02 10:00"]]
)
def test_impossible_dates_are_texts(tmp_path: Path, cells: list[str]) -> None:
    assert types(inspect(tmp_path, tabulate(cells)))["x"] == "text"


def test_day_and_month_that_cannot_be_told_apart_are_text_with_a_warning(tmp_path: Path) -> None:
    facts = inspect(tmp_path, tabulate(["1/2/2024", "3/4/2024", "5/6/2024"]))
    assert (types(facts)["x"], codes(facts)) == ("text", ["date-ambiguous"])


def test_facts_of_a_column_of_numbers(tmp_path: Path) -> None:
    facts = inspect(tmp_path, tabulate(["0", "10", "10", "NA", "20"])).columns[1]
    assert (facts.distinct, facts.missing, facts.examples) == (3, 1, ["0", "10", "20"])
    assert (facts.min, facts.max, facts.mean) == (0, 20, 10)
    assert facts.spread == pytest.approx(np.std([0, 10, 10, 20]))
    assert (facts.bins[0], facts.bins[10], facts.bins[19], sum(facts.bins)) == (1, 2, 1, 4)


def test_facts_of_a_column_of_texts(tmp_path: Path) -> None:
    cells = [word for index in range(40) for word in [f"w{index:02}"] * (40 - index)]
    facts = inspect(tmp_path, tabulate(["", *cells])).columns[1]
    assert (facts.distinct, facts.missing, len(facts.values)) == (40, 1, 31)
    assert facts.values[:2] == [("w00", 40), ("w01", 39)]
    assert facts.examples == ["w00", "w01", "w02", "w03", "w04"]


def test_facts_of_huge_numbers_are_finite(tmp_path: Path) -> None:
    facts = inspect(tmp_path, tabulate(["1.7e308", "-1.7e308", "1.6e308"])).columns[1]
    assert (facts.min, facts.max, sum(facts.bins)) == (-1.7e308, 1.7e308, 3)


def test_infinity_among_texts_is_text(tmp_path: Path) -> None:
    assert types(inspect(tmp_path, tabulate(["inf", "abc", "1"])))["x"] == "text"


def test_infinity_beside_decimal_commas_is_a_bad_cell(tmp_path: Path) -> None:
    assert "'inf'" in refuse(tmp_path, tabulate(["1,5", "inf", "2,5"], ";")).detail
